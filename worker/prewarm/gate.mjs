await globalThis[Symbol.for('gateway.prewarm')]?.();

#!/usr/bin/env node
// Becomes the program of this processor, which npm has put beside this package.
"use strict";
const name = `openclaw-gateway-launcher-linux-${process.arch}`;
let program;
try {
	program = require.resolve(`${name}/bin/gateway`);
} catch {
	console.error(
		process.platform === "linux" && ["x64", "arm64"].includes(process.arch)
			? `gateway: the package ${name} is missing. Put its .tgz file beside the one of openclaw-gateway-launcher, and in that folder run: npm install --global --offline ./openclaw-gateway-launcher-*.tgz`
			: `gateway: there is no program for ${process.platform} on ${process.arch}: it needs Linux on x64 or arm64`,
	);
	process.exit(1);
}
const args = process.argv.slice(2);
if (process.execve) {
	// Since Node.js 22.15: the same process goes on as the program.
	process.execve(program, ["gateway", ...args], process.env);
}
const child = require("node:child_process").spawn(program, args, { stdio: "inherit" });
// A terminal sends these to both; the others come to this process alone.
for (const signal of ["SIGINT", "SIGQUIT"]) process.on(signal, () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
	console.error(`gateway: ${error.message}`);
	process.exit(1);
});
child.on("exit", (code, signal) => {
	if (signal) {
		process.removeAllListeners(signal);
		process.kill(process.pid, signal);
	} else {
		process.exit(code);
	}
});

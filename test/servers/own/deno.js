const server = Deno.serve(
  { port: Number(Deno.env.get('PORT')), hostname: '127.0.0.1' },
  () => new Response(`generation ${Deno.env.get('GATEWAY_GENERATION')} pid ${Deno.pid}\n`),
);
Deno.addSignalListener('SIGTERM', () => server.shutdown().then(() => Deno.exit()));

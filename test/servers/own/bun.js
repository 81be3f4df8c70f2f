const server = Bun.serve({
  port: Number(process.env.PORT),
  hostname: '127.0.0.1',
  fetch: () => new Response(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`),
});
process.on('SIGTERM', async () => {
  await server.stop();
  process.exit();
});

'use strict';
const fastify = require('fastify');

const app = fastify({ return503OnClosing: false });
app.get('/', async () => {
  await new Promise((resolve) => setTimeout(resolve, 20));
  return `generation ${process.env.GATEWAY_GENERATION}\n`;
});
app.listen({ port: 8080, host: '127.0.0.1' });
process.on('SIGTERM', () => app.close());

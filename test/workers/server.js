// An ordinary Node.js server that knows nothing of the launcher. It takes
// BOOT_MS to boot (300), and listens on PORT (18789) of both loopback addresses.
'use strict';
const http = require('node:http');

const port = Number(process.env.PORT ?? 18789);
const answer = (request, response) => {
  if (request.url === '/environment') response.end(JSON.stringify(process.env));
  else response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`);
};

setTimeout(() => {
  http.createServer(answer).listen(port, '127.0.0.1');
  http.createServer(answer).listen({ port, host: '::1' });
}, Number(process.env.BOOT_MS ?? 300));

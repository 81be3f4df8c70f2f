// Closes its listeners when asked, and lives on.
'use strict';
const http = require('node:http');

const servers = ['127.0.0.1', '::1'].map((host) => {
  const server = http.createServer((request, response) => {
    response.setHeader('Connection', 'close');
    response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`);
    if (request.url === '/misbehave') response.on('finish', () => servers.forEach((each) => each.close()));
  });
  return server.listen(18789, host);
});
setInterval(() => {}, 1000);

// Closes its server in the callback of listen(), the first time.
'use strict';

const http = require('node:http');

const [host, port] = process.argv.slice(2);
const server = http.createServer((_, response) => response.end('answered'));
server.listen(Number(port), host, () => {
  server.close(() => {
    server.listen(Number(port), host, () => console.log(JSON.stringify({ event: 'listening', address: server.address() })));
  });
});
process.stdin.resume().on('end', () => process.exit(0));

'use strict';
const http = require('node:http');
const { WebSocketServer } = require('ws');

const server = http.createServer((request, response) => response.end(`generation ${process.env.GATEWAY_GENERATION}\n`));
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket) => socket.on('message', (message) => socket.send(`${message}`)));
server.listen(8080, '127.0.0.1');
process.on('SIGTERM', () => {
  server.close();
  for (const socket of sockets.clients) socket.close(1001);
});

// A Node.js server of WebSockets that says nothing on them. What a client says
// first, its close, is answered with one.
'use strict';
const crypto = require('node:crypto');
const http = require('node:http');

const open = (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455 section 1.3
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    `Sec-WebSocket-Accept: ${crypto.createHash('sha1').update(key).digest('base64')}\r\n\r\n`);
  socket.once('data', () => socket.end(Buffer.from([0x88, 2, 1000 >> 8, 1000 & 255])));
};

for (const host of ['127.0.0.1', '::1']) {
  http.createServer().on('upgrade', open).listen({ port: 18789, host });
}

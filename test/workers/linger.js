// An ordinary Node.js server that stops listening at SIGTERM and then takes its
// time: until somebody writes to the FIFO that LINGER names.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const servers = ['127.0.0.1', '::1'].map((host) =>
  http.createServer((request, response) => {
    response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`);
  }).listen({ port: 18789, host }));

process.on('SIGTERM', () => {
  for (const server of servers) server.close();
  fs.readFile(process.env.LINGER, () => process.exit());
});

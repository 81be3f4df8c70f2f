// A primary that starts two workers, and two others when both have gone. A
// request for /die ends the worker that gets it.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');

const [host, port] = process.argv.slice(2);
if (cluster.isPrimary) {
  const start = () => {
    cluster.fork();
    cluster.fork();
  };
  let listening = 0;
  cluster.on('listening', (_, { address }) => {
    listening += 1;
    if (listening % 2 === 0) console.log(JSON.stringify({ event: 'listening', failed: address }));
  });
  cluster.on('exit', () => {
    if (Object.keys(cluster.workers).length === 0) start();
  });
  process.stdin.resume().on('end', () => process.exit(0));
  start();
} else {
  const server = http.createServer((request, response) => {
    response.setHeader('Connection', 'close');
    response.end('answered', () => {
      if (request.url === '/die') process.exit(0);
    });
  });
  if (port === undefined) server.listen(host); // a path
  else server.listen(Number(port), host);
  process.on('disconnect', () => process.exit(0));
}

import http from 'node:http';

const server: http.Server = http.createServer((request, response) => {
  response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`);
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', () => server.close());

'use strict';
const http = require('node:http');

const server = http.createServer((request, response) => response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`));
server.listen(Number(process.env.PORT), '127.0.0.1');
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => server.close());

'use strict';
const express = require('express');

const app = express();
app.get('/', (request, response) => {
  setTimeout(() => response.send(`generation ${process.env.GATEWAY_GENERATION}\n`), 20);
});
const server = app.listen(8080, '127.0.0.1');
process.on('SIGTERM', () => server.close());

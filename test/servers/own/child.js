'use strict';
const { fork } = require('node:child_process');

const server = fork(`${__dirname}/node.js`);
process.on('SIGTERM', () => server.kill());
server.on('exit', (code) => process.exit(code ?? 1));

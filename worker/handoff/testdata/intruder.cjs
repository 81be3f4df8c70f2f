// A worker thread that says what it sees of the launcher, and whether it can
// listen on the address that it is given.
'use strict';

const { parentPort, workerData } = require('node:worker_threads');

const { GATEWAY_PRELOAD: order, NODE_OPTIONS: options } = process.env;
require('node:net')
  .createServer()
  .on('listening', () => parentPort.postMessage({ event: 'thread', order, options }))
  .on('error', ({ code }) => parentPort.postMessage({ event: 'thread', code, order, options }))
  .listen(workerData);

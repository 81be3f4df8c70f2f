// Loaded by the user's own --require, so before the launcher's script: starts a
// thread that listens on the address of the program's arguments.
'use strict';

const path = require('node:path');
const { isMainThread, Worker } = require('node:worker_threads');

if (isMainThread) {
  const [host, port] = process.argv.slice(2);
  new Worker(path.join(__dirname, 'intruder.cjs'), { workerData: { host, port: Number(port) } })
    .on('message', (line) => console.log(JSON.stringify(line)));
}

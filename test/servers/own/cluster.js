'use strict';
const cluster = require('node:cluster');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  process.on('SIGTERM', () => cluster.disconnect());
} else {
  process.on('SIGTERM', () => {}); // the primary tells
  require('./node.js');
}

// Says what it was started with.
'use strict';

const fs = require('node:fs');

const descriptors = {};
for (const fd of fs.readdirSync('/proc/self/fd')) {
  try {
    descriptors[fd] = fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The descriptor of the directory itself.
  }
}
const { GATEWAY_PRELOAD: order, NODE_OPTIONS: options } = process.env;
fs.writeSync(1, `${JSON.stringify({ event: 'environment', order, options, title: process.title, descriptors })}\n`);

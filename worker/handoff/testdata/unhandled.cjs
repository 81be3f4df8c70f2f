// Listens on HOST and PORT, its arguments, and does not care about errors.
'use strict';

const [host, port] = process.argv.slice(2);
require('node:net').createServer().listen(Number(port), host);

// Starts environment.cjs in each of the ways that Node.js has.
'use strict';

const { fork, spawnSync } = require('node:child_process');
const path = require('node:path');

const script = path.join(__dirname, 'environment.cjs');
fork(script).on('exit', () => {
  spawnSync(process.execPath, [script], { stdio: 'inherit' });
  spawnSync(`"${process.execPath}" "${script}"`, { stdio: 'inherit', shell: true });
});

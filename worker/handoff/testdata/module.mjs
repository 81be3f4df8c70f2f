// An ES module that imports the server class by name.
import { Server } from 'node:http';

const [host, port] = process.argv.slice(2);
const server = new Server((_, response) => response.end('answered'));
server.listen({ host, port: Number(port) }, () => console.log(JSON.stringify({ event: 'listening', address: server.address() })));
process.stdin.resume().on('end', () => process.exit(0));

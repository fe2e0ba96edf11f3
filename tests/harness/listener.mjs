//! A client on another machine: opens a WebSocket for each key that it is given, says what it hears, and never ends by itself.

import { WebSocket } from 'ws';

const [url, ...keys] = process.argv.slice(2);
for (const key of keys) {
    const socket = new WebSocket(url, { headers: { ctstickiness: key } });
    socket.on('message', message => console.log(`${key} heard ${message}`));
    socket.on('error', error => console.log(`${key} failed: ${error.message}`));
}

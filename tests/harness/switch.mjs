//! Brings each request to where a test wants it at that moment, as a load balancer before several balancers does.

import { once } from 'node:events';
import { createServer, request } from 'node:http';

/** What no balancer can send twice. */
const LARGE = 64 * 1024;

export class Switch {
    /**
     * @param {string} url where requests go
     * @returns {Promise<Switch>}
     */
    static async to(url) {
        const made = new Switch(url);
        made.server.listen(0, '127.0.0.1');
        await once(made.server, 'listening');
        const { port } = /** @type {import('node:net').AddressInfo} */ (made.server.address());
        made.url = `http://127.0.0.1:${port}`;
        return made;
    }

    /** @param {string} target */
    constructor(target) {
        this.url = '';
        /** Where requests go. */
        this.target = target;
        /** Where those go instead that no balancer can send twice. */
        this.largeTarget = target;
        /** Whether they are sent on without the length of their body. */
        this.hidesLength = false;
        /** What was answered where, and how long the body of the request was. @type {{ target: string, status: number, bytes: number }[]} */
        this.seen = [];
        this.server = createServer((asked, answer) => void this.pass(asked, answer));
    }

    /**
     * @param {import('node:http').IncomingMessage} asked
     * @param {import('node:http').ServerResponse} answer
     */
    async pass(asked, answer) {
        const chunks = [];
        for await (const chunk of asked) chunks.push(chunk);
        const body = Buffer.concat(chunks);
        const target = body.length > LARGE ? this.largeTarget : this.target;
        const headers = { ...asked.headers };
        if (this.hidesLength && body.length > 0) delete headers['content-length'];
        const onward = request(target + asked.url, { method: asked.method, headers, agent: false }, answered => {
            this.seen.push({ target, status: answered.statusCode ?? 0, bytes: body.length });
            answer.writeHead(answered.statusCode ?? 0, answered.headers);
            answered.pipe(answer);
        });
        onward.on('error', () => answer.destroy());
        onward.end(body);
    }

    /** The statuses of the answers to what went to a balancer and is too much to be sent twice. @param {string} target */
    largeAnswers(target) {
        return this.seen.filter(({ target: at, bytes }) => at === target && bytes > LARGE).map(({ status }) => status);
    }

    close() {
        this.server.close();
        this.server.closeAllConnections();
    }
}

//! Clients that know nothing of the protocol, each by a different library: `node:http`, `fetch`, and bytes on a socket.

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { within } from './deadline.mjs';

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {Record<string, string>} headers the last value of each name
 * @property {string[]} cookies each `Set-Cookie`
 * @property {string} text
 * @property {any} body the JSON body, if it is one
 */

/**
 * @param {number} status
 * @param {Record<string, string>} headers
 * @param {string[]} cookies
 * @param {string} text
 * @returns {Answer}
 */
function answer(status, headers, cookies, text) {
    let body;
    try {
        body = JSON.parse(text);
    } catch {
        body = undefined;
    }
    return { status, headers, cookies, text, body };
}

/**
 * @param {string} url
 * @param {{ method?: string, headers?: Record<string, string | string[]>, body?: string, agent?: any }} [options]
 * @returns {Promise<Answer>}
 */
export function byNodeHttp(url, { method = 'GET', headers = {}, body, agent } = {}) {
    /** @type {Promise<Answer>} */
    const answered = new Promise((resolve, reject) => {
        const request = httpRequest(url, { method, headers, agent }, response => {
            let text = '';
            response.setEncoding('utf8');
            response.on('data', part => (text += part));
            response.on('error', reject);
            response.on('end', () => {
                const all = /** @type {Record<string, string>} */ ({ ...response.headers });
                resolve(answer(response.statusCode ?? 0, all, response.headers['set-cookie'] ?? [], text));
            });
        });
        request.on('error', reject);
        request.end(body);
    });
    return within(`answer to ${method} ${url}`, answered, 40_000);
}

/**
 * @param {string} url
 * @param {{ headers?: Record<string, string> }} [options]
 * @returns {Promise<Answer>}
 */
export async function byFetch(url, { headers = {} } = {}) {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(40_000) });
    const text = await response.text();
    return answer(response.status, Object.fromEntries(response.headers), response.headers.getSetCookie(), text);
}

/**
 * One request as bytes on a connection of its own.
 *
 * @param {string} url
 * @param {{ headers?: Record<string, string> }} [options]
 * @returns {Promise<Answer>}
 */
export async function bySocket(url, { headers = {} } = {}) {
    const { hostname, port, host, pathname, search } = new URL(url);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const text = await exchange(Number(port), hostname, [
        `GET ${pathname}${search} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n`,
        ...lines,
        '\r\n',
    ].join(''));
    const [head, ...rest] = text.split('\r\n\r\n');
    const [statusLine, ...headerLines] = head.split('\r\n');
    const named = headerLines.map(line => /** @type {[string, string]} */ ([
        line.slice(0, line.indexOf(':')).toLowerCase(),
        line.slice(line.indexOf(':') + 1).trim(),
    ]));
    const body = unchunked(rest.join('\r\n\r\n'), Object.fromEntries(named)['transfer-encoding'] === 'chunked');
    const cookies = named.filter(([name]) => name === 'set-cookie').map(([, value]) => value);
    return answer(Number(statusLine.split(' ')[1]), Object.fromEntries(named), cookies, body);
}

/**
 * Sends bytes and gives everything that comes until the other side closes.
 *
 * @param {number} port
 * @param {string} host
 * @param {string} bytes
 * @returns {Promise<string>}
 */
export function exchange(port, host, bytes) {
    /** @type {Promise<string>} */
    const read = new Promise((resolve, reject) => {
        let text = '';
        const socket = connect(port, host, () => socket.write(bytes));
        socket.setEncoding('utf8');
        socket.on('data', part => (text += part));
        socket.on('end', () => resolve(text));
        socket.on('error', reject);
    });
    return within('end of the answer', read);
}

/**
 * @param {string} text
 * @param {boolean} chunked
 */
function unchunked(text, chunked) {
    if (!chunked) return text;
    let body = '';
    let rest = text;
    for (;;) {
        const at = rest.indexOf('\r\n');
        const length = Number.parseInt(rest.slice(0, at), 16);
        if (!(length > 0)) return body;
        body += rest.slice(at + 2, at + 2 + length);
        rest = rest.slice(at + 2 + length + 2);
    }
}

/**
 * The value of the stickiness cookie that an answer sets, and its attributes.
 *
 * @param {Answer} answer
 * @returns {{ value: string, attributes: string[] } | undefined}
 */
export function keyCookie({ cookies }) {
    const cookie = cookies.find(text => text.startsWith('ctstickiness='));
    if (!cookie) return undefined;
    const [pair, ...attributes] = cookie.split(';').map(part => part.trim());
    return { value: pair.slice('ctstickiness='.length), attributes: attributes.map(name => name.toLowerCase()) };
}

//! People who work together: the real client of the Open Collaboration Protocol, with what a test wants to see of it.

import { webcrypto } from 'node:crypto';
import {
    ConnectionProvider,
    Encoding,
    Encryption,
    SocketIoTransport,
    SocketIoTransportProvider,
    createConnection,
    initializeProtocol,
} from 'open-collaboration-protocol';
import { OpenCollaborationYjsProvider } from 'open-collaboration-yjs';
import { io } from 'socket.io-client';
import { Awareness } from 'y-protocols/awareness';
import * as Y from 'yjs';
import { Inbox, SOON_MS, within } from './deadline.mjs';

initializeProtocol({ cryptoModule: /** @type {any} */ (webcrypto) });

/** The workspace that every host shows. */
export const WORKSPACE = { name: 'demo', folders: ['demo'] };

/**
 * RSA-4096 takes about a second to make; four pairs are enough, as no test has more peers in one session.
 *
 * @type {Promise<{ publicKey: string, privateKey: string }>[]}
 */
const keyPairs = [];

/** @param {number} index */
function keyPair(index) {
    keyPairs[index % 4] ??= Encryption.generateKeyPair();
    return keyPairs[index % 4];
}

let persons = 0;

/** One participant. `heard` has every message in the order in which the wire brought it. */
export class Person {
    /**
     * @param {string} name
     * @param {string} url
     */
    constructor(name, url) {
        this.name = name;
        this.url = url;
        this.keys = keyPair(persons++);
        this.heard = new Inbox(name);
        this.roomId = this.roomToken = this.loginToken = '';
        /** The node of each answer to this person, where the edge says so. @type {Set<string>} */
        this.nodes = new Set();
        /** @type {(url: string, init?: any) => Promise<Response>} */
        this.fetch = fetch;
        this.provider = new ConnectionProvider({
            url,
            client: 'ctedge system test',
            fetch: async (/** @type {string} */ target, /** @type {any} */ init) => this.noted(target, await this.fetch(target, init)),
            authenticationHandler: async (token, metadata) => {
                const web = metadata.providers.find(provider => provider.type === 'web');
                if (web && this.open) {
                    await this.open(`${url}${web.endpoint}?token=${token}`);
                    return true;
                }
                const form = metadata.providers.find(provider => provider.type === 'form');
                if (!form) throw new Error('the server offers no form to log in with');
                const response = await this.fetch(url + /** @type {any} */ (form).endpoint, {
                    method: 'POST',
                    headers: { 'content-type': 'application/json' },
                    body: JSON.stringify({ token, user: name, email: `${name}@example.org` }),
                });
                return response.ok;
            },
            transports: [SocketIoTransportProvider],
        });
    }

    /**
     * Session requests must all be answered by one node; logging in is nobody's session.
     *
     * @param {string} target
     * @param {Response} response
     */
    noted(target, response) {
        const node = response.headers.get('x-ctedge-node');
        if (node && target.includes('/api/session/') && !target.endsWith('/create')) this.nodes.add(node);
        return response;
    }

    /**
     * Forbids the upgrade, or begins with it.
     *
     * @param {'polling' | 'websocket'} transport
     */
    only(transport) {
        this.onlyTransport = transport;
        return this;
    }

    /**
     * Lets all requests go through `observe`, which makes them.
     *
     * @param {(url: string, init?: any) => Promise<Response>} observe
     */
    observed(observe) {
        this.fetch = observe;
        return this;
    }

    /**
     * Logs in with a provider, as editors do: by opening its page.
     *
     * @param {(url: string) => Promise<void>} open
     */
    opening(open) {
        this.open = open;
        return this;
    }

    async login() {
        // A page that has to be opened takes a browser its time.
        this.loginToken = await within(`login of ${this.name}`, this.provider.login({}), this.open ? 90_000 : SOON_MS);
        return this.loginToken;
    }

    /**
     * Creates a session and connects as its host.
     *
     * @param {{ consent?: (user: any) => boolean }} [options] who may join; everybody unless told otherwise
     */
    async host({ consent = () => true } = {}) {
        if (!this.loginToken) await this.login();
        const { roomId, roomToken } = await within(`session of ${this.name}`, this.provider.createRoom({}));
        this.roomId = roomId;
        this.consent = consent;
        return this.connect(roomToken);
    }

    /**
     * Asks to join and gives the server's answer, or its refusal as an error.
     *
     * @param {string} roomId
     * @param {(info: any) => void} [reporter]
     */
    async ask(roomId, reporter) {
        if (!this.loginToken) await this.login();
        return within(`answer to ${this.name}, who asks to join`, this.provider.joinRoom({ roomId, reporter }));
    }

    /**
     * Joins a session and waits until its host has shown it.
     *
     * @param {string} roomId
     */
    async join(roomId) {
        const { roomToken, host, workspace } = await this.ask(roomId);
        this.roomId = roomId;
        this.workspace = workspace;
        this.hostPeer = host;
        await this.connect(roomToken, host);
        await this.heard.first('peer/init', message => message.method === 'peer/init');
        return this;
    }

    /**
     * @param {string} roomToken
     * @param {any} [host] the host's peer, for a guest
     */
    async connect(roomToken, host) {
        this.roomToken = roomToken;
        const keys = await this.keys;
        const headers = {
            'x-oct-jwt': roomToken,
            'x-oct-public-key': keys.publicKey,
            'x-oct-client': 'ctedge system test',
            'x-oct-compression': 'gzip',
        };
        this.transport = this.onlyTransport
            ? new SocketIoTransport(io(this.url, { transports: [this.onlyTransport], extraHeaders: headers, forceNew: true }))
            : SocketIoTransportProvider.createTransport(this.url, headers);
        this.socket.on('connect_error', (/** @type {Error} */ error) => this.noteSocket('connect_error', error.message));
        this.socket.on('disconnect', (/** @type {string} */ reason) => {
            this.noteSocket('disconnect', reason);
            this.expectNoConnection();
        });
        this.expectNoConnection();
        this.transport.read(data => this.hear(new Uint8Array(data)));
        this.connection = createConnection({ privateKey: keys.privateKey, transport: this.transport, host });
        this.react(!host);
        const info = await this.heard.first('peer/info', message => message.method === 'peer/info');
        this.peer = info.params[0];
        return this;
    }

    /**
     * @param {string} event
     * @param {string} detail
     */
    noteSocket(event, detail) {
        this.heard.push({ kind: 'socket', event, detail });
    }

    /**
     * The client's promise of a connection, one after each cut, is rejected after 30 s whether or not anybody waits for
     * it: without a handler that ends the process of the test.
     */
    expectNoConnection() {
        /** @type {any} */ (this.transport).ready.promise.catch(() => {});
    }

    /** The socket below the transport, for tests of the connection itself. @returns {any} */
    get socket() {
        return /** @type {any} */ (this.transport).socket;
    }

    /** Decodes strictly one after another, so that `heard` has the order of the wire. @param {Uint8Array} data */
    hear(data) {
        this.hearing = (this.hearing ?? Promise.resolve()).then(async () => {
            const message = /** @type {any} */ (Encoding.decode(data));
            const { privateKey } = await this.keys;
            this.secrets ??= {};
            const encrypted = message.content instanceof Uint8Array;
            const clear = encrypted ? await Encryption.decrypt(message, { privateKey, cache: this.secrets }) : message;
            const { method, params } = /** @type {any} */ (clear).content ?? {};
            const keys = message.metadata?.encryption?.keys ?? [];
            this.heard.push({ kind: message.kind, origin: message.origin, method, params, keys: keys.length });
        }).catch(error => this.heard.push({ kind: 'undecodable', error: String(error) }));
    }

    /** @param {boolean} isHost */
    react(isHost) {
        const connection = /** @type {import('open-collaboration-protocol').ProtocolBroadcastConnection} */ (this.connection);
        /** @type {Map<string, any>} */
        const others = new Map();
        connection.peer.onInfo(() => {});
        connection.chat.onMessage(() => {});
        connection.chat.onIsWriting(() => {});
        connection.sync.onDataUpdate(() => {});
        connection.sync.onAwarenessUpdate(() => {});
        connection.sync.onAwarenessQuery(() => {});
        connection.room.onLeave((_, peer) => void others.delete(peer.id));
        connection.room.onJoin(async (_, peer) => {
            const guests = [...others.values()];
            others.set(peer.id, peer);
            if (!isHost) return;
            await connection.peer.init(peer.id, {
                protocol: '0.3.1',
                host: this.peer,
                guests,
                capabilities: {},
                permissions: { readonly: false },
                workspace: WORKSPACE,
            });
        });
        if (!isHost) return;
        connection.peer.onJoinRequest(async (_, user) => this.consent?.(user) ? { workspace: WORKSPACE } : undefined);
        connection.fs.onReadFile(async (_, file) => ({ content: new TextEncoder().encode(`content of ${file}`) }));
    }

    /** Says something to everybody in the session. @param {string} text */
    async say(text) {
        await within(`${this.name} to say ${text}`, this.connection?.chat.sendMessage(text) ?? Promise.reject());
    }

    /** What others said, in the order of the wire. @returns {string[]} */
    get chat() {
        return this.heard.all.filter(isChat).map(message => message.params[0]);
    }

    /**
     * Waits until this person has heard someone say `text`.
     *
     * @param {string} text
     * @param {number} [ms]
     */
    hears(text, ms) {
        return this.heard.first(`"${text}"`, message => isChat(message) && message.params[0] === text, ms);
    }

    /**
     * Waits for a message of the server.
     *
     * @param {string} method
     * @param {(params: any[]) => boolean} [matches]
     * @param {number} [ms]
     */
    told(method, matches = () => true, ms) {
        return this.heard.first(method, message => message.method === method && matches(message.params), ms);
    }

    /**
     * A shared document over this person's connection.
     *
     * @param {number} [resyncMs] how often it asks for what it may have missed; editors do every 10 s
     */
    openDocument(resyncMs) {
        const document = new Y.Doc();
        const provider = new OpenCollaborationYjsProvider(
            /** @type {any} */ (this.connection), document, new Awareness(document), { resyncTimer: resyncMs },
        );
        provider.connect();
        this.document = document;
        return document.getText('file');
    }

    /** Waits until the transport is a WebSocket. */
    async upgraded() {
        const engine = this.socket.io.engine;
        if (engine.transport.name === 'websocket') return;
        await within(`upgrade of ${this.name}`, new Promise(resolve => engine.once('upgrade', resolve)));
    }

    /** Leaves as the client does: it says so, and closes. */
    async leave() {
        await this.connection?.room.leave();
    }

    /** Closes the connection without a word to the session. */
    close() {
        this.document?.destroy();
        this.transport?.dispose();
        this.connection?.dispose();
    }
}

/** @param {any} message */
function isChat(message) {
    return message.method === 'chat/message' || message.method === 'chat/directMessage';
}

/**
 * Gathers people, and sends everybody home at the end.
 *
 * @param {(meet: (name: string, url: string) => Person) => Promise<void>} use
 */
export async function meeting(use) {
    /** @type {Person[]} */
    const people = [];
    try {
        await use((name, url) => {
            const person = new Person(name, url);
            people.push(person);
            return person;
        });
    } finally {
        for (const person of people) person.close();
    }
}

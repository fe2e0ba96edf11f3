//! People who say numbered things all the time, and what became of each of them.

import assert from 'node:assert/strict';
import { eventually, pause, within } from './deadline.mjs';

/**
 * @typedef {import('./person.mjs').Person} Person
 * @typedef {object} Fate what became of everything that was said
 * @property {number} said
 * @property {{ speaker: string, number: number, at: number, missed: number }[]} lost those that at least one listener
 *     missed, when they were said, and how many listeners missed them
 * @property {number} duplicated
 * @property {number} reordered
 */

/** What somebody wrote this long before a process died may have been in its hands. */
export const ON_ITS_WAY_MS = 250;

/** A conversation in which everybody speaks and listens. */
export class Numbered {
    /**
     * @param {Person[]} people all of one session
     * @param {number} [everyMs]
     */
    constructor(people, everyMs = 5) {
        this.people = people;
        this.running = true;
        /** When each speaker said what, by number. @type {Map<Person, number[]>} */
        this.said = new Map(people.map(person => [person, []]));
        this.speaking = people.map(person => this.speak(person, everyMs));
    }

    /**
     * @param {Person} person
     * @param {number} everyMs
     */
    async speak(person, everyMs) {
        const said = /** @type {number[]} */ (this.said.get(person));
        while (this.running) {
            await this.utter(person, said);
            await pause(everyMs);
        }
    }

    /**
     * Says the next number. The client has not sent what it throws on, so that it is said again.
     *
     * @param {Person} person
     * @param {number[]} said
     */
    async utter(person, said) {
        for (;;) {
            const at = Date.now();
            try {
                await person.connection?.chat.sendMessage(`${person.name} ${said.length}`);
                said.push(at);
                return;
            } catch {
                await pause(10);
            }
        }
    }

    /** How many things have been said. */
    get count() {
        return [...this.said.values()].reduce((sum, said) => sum + said.length, 0);
    }

    /**
     * Ends the conversation, and waits until everybody has heard everybody's last word.
     *
     * @returns {Promise<Fate>}
     */
    async end(ms = 30_000) {
        this.running = false;
        await within('last words', Promise.all(this.speaking), ms);
        for (const [speaker, said] of this.said) {
            await within(`last word of ${speaker.name}`, this.utter(speaker, said), ms);
            const last = `${speaker.name} ${said.length - 1}`;
            for (const other of this.people) if (other !== speaker) await other.hears(last, ms);
        }
        return this.fate();
    }

    /** @returns {Fate} */
    fate() {
        /** @type {Fate} */
        const fate = { said: this.count, lost: [], duplicated: 0, reordered: 0 };
        for (const [speaker, said] of this.said) {
            const missed = said.map(() => 0);
            for (const listener of this.people.filter(person => person !== speaker)) {
                const prefix = `${speaker.name} `;
                const heard = listener.chat.filter(text => text.startsWith(prefix)).map(text => Number(text.slice(prefix.length)));
                fate.duplicated += heard.length - new Set(heard).size;
                fate.reordered += heard.filter((number, index) => index > 0 && number < heard[index - 1]).length;
                const known = new Set(heard);
                missed.forEach((_, number) => known.has(number) || (missed[number] += 1));
            }
            missed.forEach((count, number) => {
                if (count > 0) fate.lost.push({ speaker: speaker.name, number, at: said[number], missed: count });
            });
        }
        return fate;
    }
}

/**
 * Nothing arrived twice or out of order, and what was lost was on its way at that time.
 *
 * @param {Fate} fate
 * @param {{ from: number, to: number }} [window] in which things may have been lost; nothing may without
 */
export function assertFate(fate, window) {
    assert.equal(fate.duplicated, 0, 'nothing arrives twice');
    assert.equal(fate.reordered, 0, 'nothing overtakes anything');
    const unexplained = fate.lost.filter(({ at }) => !window || at < window.from || at > window.to);
    assert.deepEqual(unexplained, [], `nothing is lost that was not on its way (of ${fate.said})`);
}

/**
 * Tells with the test what was lost.
 *
 * @param {import('node:test').TestContext} t
 * @param {Fate} fate
 */
export function report(t, { said, lost, duplicated, reordered }) {
    t.diagnostic(`${said} said, ${lost.length} lost on their way, ${duplicated} duplicated, ${reordered} reordered`);
}

/**
 * Three people of one session, on WebSockets.
 *
 * @param {(name: string, url: string) => Person} meet
 * @param {string} url
 */
export async function threePeople(meet, url) {
    const ada = await meet('ada', url).host();
    const people = [ada, await meet('bob', url).join(ada.roomId), await meet('cyd', url).join(ada.roomId)];
    for (const person of people) await person.upgraded();
    return people;
}

/**
 * Everybody still is who they were, and was not told that anybody else of them had gone.
 *
 * @param {Person[]} people
 * @param {string[]} ids
 */
export function assertSamePeers(people, ids) {
    for (const [index, person] of people.entries()) {
        for (const { method, params } of person.heard.all) {
            if (method === 'peer/info') assert.equal(params[0].id, ids[index], `the id of ${person.name}`);
            assert.notEqual(method, 'room/closed', `${person.name} is told of no end`);
            if (method === 'room/left') assert.ok(!ids.includes(params[0].id), `${person.name} is told of no goodbye`);
        }
    }
}

/** Whether an item of what somebody heard is the end of the connection. @param {any} item */
export function disconnects(item) {
    return item.kind === 'socket' && item.event === 'disconnect';
}

/**
 * Waits until somebody has been cut off once more, from now on, and is back.
 *
 * @param {Person} person
 * @param {number} [ms] for each of the two
 * @returns {Promise<number>} when the cut was noticed
 */
export async function reconnected(person, ms = 40_000) {
    const before = person.heard.all.filter(disconnects).length;
    const is = (/** @type {string} */ what, /** @type {() => boolean} */ condition) => eventually(`${person.name} ${what}`, condition, ms);
    await is('cut off', () => person.heard.all.filter(disconnects).length > before);
    const cut = Date.now();
    await is('back', () => person.socket.connected);
    return cut;
}

/**
 * Waits until everybody has been cut off once more, from now on, and is back.
 *
 * @param {Person[]} people
 * @param {number} [ms] for each of the two
 * @returns {Promise<number>} when the last one noticed
 */
export async function everybodyBack(people, ms) {
    return Math.max(...(await Promise.all(people.map(person => reconnected(person, ms)))));
}

/** Several sessions at once in which everybody speaks and listens. */
export class Conversations {
    /**
     * @param {(name: string, url: string) => Person} meet
     * @param {string} url
     * @param {{ sessions: number, peers: number, everyMs?: number, transport?: 'polling' | 'websocket' }} options without
     *     a transport, everybody upgrades to a WebSocket
     */
    static async start(meet, url, { sessions, peers, everyMs = 50, transport }) {
        const person = (/** @type {string} */ name) => transport ? meet(name, url).only(transport) : meet(name, url);
        const conversations = new Conversations();
        for (let session = 1; session <= sessions; session += 1) {
            const host = await person(`host-${session}`).host();
            const people = [host];
            for (let guest = 1; guest < peers; guest += 1) {
                people.push(await person(`guest-${session}-${guest}`).join(host.roomId));
            }
            if (!transport) for (const someone of people) await someone.upgraded();
            conversations.rooms.push(new Numbered(people, everyMs));
            conversations.ids.push(people.map(person => person.peer.id));
        }
        return conversations;
    }

    constructor() {
        /** @type {Numbered[]} */
        this.rooms = [];
        /** The peers' ids at the beginning, by room. @type {string[][]} */
        this.ids = [];
    }

    /** Everybody. @returns {Person[]} */
    get people() {
        return this.rooms.flatMap(room => room.people);
    }

    /** Waits until everybody has said more. */
    async goOn(more = 10) {
        const counts = this.rooms.map(room => room.count + more * room.people.length);
        await eventually('more conversation', () => this.rooms.every((room, index) => room.count > counts[index]), 60_000);
    }

    /**
     * Ends all of them: nothing was lost, nothing came twice or out of order, and nobody was taken for anybody else or said
     * to have gone.
     *
     * @param {import('node:test').TestContext} t
     */
    async assertNothingHappened(t) {
        const fates = await Promise.all(this.rooms.map(room => room.end()));
        const sum = (/** @type {(fate: Fate) => number} */ of) => fates.reduce((total, fate) => total + of(fate), 0);
        report(t, {
            said: sum(fate => fate.said), lost: fates.flatMap(fate => fate.lost),
            duplicated: sum(fate => fate.duplicated), reordered: sum(fate => fate.reordered),
        });
        for (const [index, fate] of fates.entries()) {
            assertFate(fate);
            assertSamePeers(this.rooms[index].people, this.ids[index]);
        }
    }
}

//! A session as people live it, from the first login to the last goodbye, told once for every way in: three people,
//! files, talk, and a document that all of them write at once.

import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { eventually, within } from './deadline.mjs';
import { WORKSPACE, meeting } from './person.mjs';

/** @param {string} url */
export async function workTogether(url) {
    await meeting(async meet => {
        const ada = await meet('ada', url).host();
        const bob = await meet('bob', url).join(ada.roomId);
        const cyd = await meet('cyd', url).join(ada.roomId);
        await introductions(ada, bob, cyd);
        await files(ada, bob);
        await talk(ada, bob, cyd);
        await oneDocument([ada, bob, cyd]);
        await goodbyes(ada, bob, cyd);
    });
}

/**
 * @typedef {import('./person.mjs').Person} Person
 * @param {Person} ada
 * @param {Person} bob
 * @param {Person} cyd
 */
async function introductions(ada, bob, cyd) {
    assert.deepEqual(bob.workspace, WORKSPACE);
    assert.equal(bob.hostPeer.id, ada.peer.id);
    assert.equal(ada.peer.host, true);
    assert.equal(bob.peer.host, false);
    assert.equal(bob.peer.name, 'bob');
    assert.equal(bob.peer.email, 'bob@example.org');
    assert.equal(new Set([ada.peer.id, bob.peer.id, cyd.peer.id]).size, 3, 'each peer has an id of its own');
    for (const earlier of [ada, bob]) {
        const message = await earlier.told('room/joined', ([peer]) => peer.id === cyd.peer.id);
        assert.equal(message.origin, '', 'the server speaks for itself');
    }
    const init = await cyd.heard.first('peer/init', message => message.method === 'peer/init');
    assert.deepEqual(init.params[0].guests.map((/** @type {any} */ peer) => peer.id), [bob.peer.id]);
}

/**
 * @param {Person} ada
 * @param {Person} bob
 */
async function files(ada, bob) {
    const request = bob.connection?.fs.readFile(ada.peer.id, 'demo/readme.txt');
    const { content } = await within('file', /** @type {Promise<any>} */ (request));
    assert.equal(new TextDecoder().decode(content), 'content of demo/readme.txt');
}

/**
 * @param {Person} ada
 * @param {Person} bob
 * @param {Person} cyd
 */
async function talk(ada, bob, cyd) {
    for (let number = 1; number <= 20; number += 1) await ada.say(`ada ${number}`);
    for (const listener of [bob, cyd]) {
        await listener.hears('ada 20');
        assert.deepEqual(listener.chat, Array.from({ length: 20 }, (_, index) => `ada ${index + 1}`));
        const spoken = listener.heard.all.filter(message => message.method === 'chat/message');
        assert.ok(spoken.every(message => message.origin === ada.peer.id), 'the origin is the one who spoke');
        assert.ok(spoken.every(message => message.keys === 1), 'a listener gets its own key and no other');
    }
    await bob.connection?.chat.sendDirectMessage(cyd.peer.id, 'between us');
    await cyd.hears('between us');
    await cyd.say('that was private');
    await ada.hears('that was private');
    assert.ok(!ada.chat.includes('between us'), 'a direct message reaches its target alone');
}

/** @param {Person[]} people */
async function oneDocument(people) {
    const texts = people.map(person => person.openDocument());
    texts.forEach((text, index) => text.insert(0, `line of ${people[index].name}\n`));
    for (let round = 0; round < 10; round += 1) texts.forEach(text => text.insert(text.length, `${round}`));
    const length = people.length * ('line of ada\n'.length + 10);
    await eventually('one text on all screens', () => texts.every(text => {
        return text.length === length && text.toString() === texts[0].toString();
    }));
    for (const person of people) assert.match(texts[0].toString(), new RegExp(`line of ${person.name}\n`));
}

/**
 * @param {Person} ada
 * @param {Person} bob
 * @param {Person} cyd
 */
async function goodbyes(ada, bob, cyd) {
    await bob.leave();
    for (const other of [ada, cyd]) await other.told('room/left', ([peer]) => peer.id === bob.peer.id);
    assert.ok(!cyd.heard.all.some(message => message.method === 'room/closed'), 'a guest leaves alone');
    await ada.leave();
    await cyd.told('room/closed');
}

// In a process of its own, with the certificate in NODE_EXTRA_CA_CERTS, which Node.js reads only at its start.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
    await workTogether(process.argv[2]);
    console.log('they worked together');
    process.exit(0);
}

//! A person with a browser: the login page, and a session from a page on the edge's own origin.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHROMIUM, clientScript, hasChromium, picture, withBrowser } from '../harness/browser.mjs';
import { withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';

const skip = hasChromium ? false : `there is no ${CHROMIUM}: apt-get install chromium`;

/**
 * A page on the edge's own origin that runs the client. The edge itself has to have served it: Chromium keeps a page
 * that a test made up from opening a WebSocket to this machine.
 *
 * @param {import('playwright-core').BrowserContext} context
 * @param {string} origin
 */
async function editorPage(context, origin) {
    const page = await context.newPage();
    await page.goto(`${origin}/api/meta`);
    await page.addScriptTag({ content: await clientScript() });
    return page;
}

/**
 * Waits for the page to want a login, and gives it in a tab of its own, as a person does.
 *
 * @param {import('playwright-core').BrowserContext} context
 * @param {import('playwright-core').Page} page
 * @param {string} name
 */
async function logIn(context, page, name) {
    await holds(page, 'window.editor.loginPage !== ""');
    const tab = await context.newPage();
    await tab.goto(/** @type {string} */ (await page.evaluate('window.editor.loginPage')));
    await picture(tab, 'login');
    await tab.getByLabel(/name/i).first().fill(name);
    await tab.getByLabel(/mail/i).first().fill(`${name}@example.org`);
    await picture(tab, 'login-filled');
    await tab.getByRole('button').first().click();
    await tab.getByText(/logged in|signed in|success|close this/i).first().waitFor();
    await picture(tab, 'login-done');
    await tab.close();
}

/**
 * Waits until an expression holds in a page. Asked by time: a page behind another draws no frames to be asked at.
 *
 * @param {import('playwright-core').Page} page
 * @param {string} expression
 */
async function holds(page, expression) {
    await page.waitForFunction(expression, undefined, { polling: 50, timeout: 30_000 });
}

/** @param {import('playwright-core').Page} page */
async function upgraded(page) {
    await holds(page, 'window.editor.transportName() === "websocket"');
}

test('a browser logs in, joins a session, upgrades, and comes back after a cut', { skip }, async () => {
    await withEdge({ args: ['--expose-node'] }, edge => withBrowser(async context => {
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            const page = await editorPage(context, edge.http);
            /** @type {string[]} */
            const webSockets = [];
            page.on('websocket', socket => webSockets.push(socket.url()));
            const joined = page.evaluate(`window.editor.join(${JSON.stringify(host.roomId)})`);
            await logIn(context, page, 'bea');
            assert.equal(await joined, 'demo');
            await host.told('room/joined', ([peer]) => peer.name === 'bea' && peer.email === 'bea@example.org');
            await upgraded(page);
            assert.match(webSockets[0], /\/socket\.io\/.*sid=/, 'the upgrade carries nothing but its sid');
            assert.doesNotMatch(webSockets[0], /jwt|key=/);

            await host.say('hello browser');
            await holds(page, 'window.editor.heard.includes("hello browser")');
            await page.evaluate('window.editor.connection.chat.sendMessage("hello host")');
            await host.hears('hello host');

            await page.evaluate('window.editor.cut()');
            await host.say('while you were away');
            await holds(page, 'window.editor.heard.includes("while you were away")');
            await upgraded(page);
            assert.ok(!host.heard.all.some(message => message.method === 'room/left'));

            const cookies = await context.cookies(edge.http);
            const cookie = cookies.find(({ name }) => name === 'ctstickiness');
            assert.ok(cookie?.httpOnly, 'the browser is pinned by a cookie that scripts cannot read');
        });
    }));
});

test('a browser hosts a session over HTTPS while it is a guest of another', { skip }, async () => {
    const options = { ignoreHTTPSErrors: true };
    await withEdge({}, edge => withBrowser(async context => {
        await meeting(async meet => {
            const host = await meet('host', edge.http).host();
            const guestPage = await editorPage(context, edge.https);
            const joined = guestPage.evaluate(`window.editor.join(${JSON.stringify(host.roomId)})`);
            await logIn(context, guestPage, 'gus');
            await joined;
            const hostPage = await editorPage(context, edge.https);
            const hosting = hostPage.evaluate('window.editor.host()');
            await logIn(context, hostPage, 'hal');
            const roomId = /** @type {string} */ (await hosting);
            const guest = await meet('guest', edge.http).join(roomId);
            assert.equal(guest.workspace.name, 'browser');
            await upgraded(guestPage);
            await upgraded(hostPage);
            await guest.say('to the browser that hosts');
            await holds(hostPage, 'window.editor.heard.includes("to the browser that hosts")');
            await host.say('to the browser that is a guest');
            await holds(guestPage, 'window.editor.heard.includes("to the browser that is a guest")');
            assert.deepEqual(await guestPage.evaluate('window.editor.heard'), ['to the browser that is a guest']);
            assert.deepEqual(await hostPage.evaluate('window.editor.heard'), ['to the browser that hosts']);
        });
    }, options));
});

//! Sign-on with a real OpenID Connect provider and a real browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHROMIUM, hasChromium, picture, withBrowser } from '../harness/browser.mjs';
import { freePort, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { CLIENT, SignOnProvider } from '../harness/provider.mjs';
import { claimOf } from '../harness/tokens.mjs';

const skip = hasChromium ? false : `there is no ${CHROMIUM}: apt-get install chromium`;

/**
 * An edge that people sign on to, and its provider.
 *
 * @param {(provider: SignOnProvider) => Record<string, string>} variables how the edge is told of the provider
 * @param {(edge: import('../harness/edge.mjs').Edge, provider: SignOnProvider) => Promise<void>} use
 */
async function withSignOn(variables, use) {
    const address = `127.0.0.1:${await freePort()}`;
    const provider = await SignOnProvider.start(`http://${address}/sso/authorization-code/callback`);
    const env = {
        CT_SERVER_URL: `http://${address}`,
        CT_SSO_CLIENT_ID: CLIENT.id,
        CT_SSO_CLIENT_SECRET: CLIENT.secret,
        CT_SSO_PROVIDER: 'Example ID',
        ...variables(provider),
    };
    try {
        await withEdge({ http: address, env }, edge => use(edge, provider));
    } finally {
        provider.stop();
    }
}

/**
 * What a person does on the pages of the provider.
 *
 * @param {import('playwright-core').Page} page
 * @param {string} name
 */
async function signOn(page, name) {
    await page.getByPlaceholder(/login/i).fill(name);
    await page.getByPlaceholder(/password/i).fill('anything');
    await page.getByRole('button', { name: /sign-in/i }).click();
    await page.getByRole('button', { name: /continue/i }).click();
}

/** @param {import('playwright-core').Page} page */
async function loggedIn(page) {
    await page.getByText('You are logged in').waitFor();
}

test('people sign on with the provider behind CT_SSO_SYSTEM_BASE_URL, and are whom it says', { skip }, async () => {
    await withSignOn(provider => ({ CT_SSO_SYSTEM_BASE_URL: provider.issuer }), (edge, provider) => withBrowser(async context => {
        await meeting(async meet => {
            const host = meet('host', edge.http).opening(async url => {
                const page = await context.newPage();
                await page.goto(url);
                assert.ok(page.url().startsWith(provider.issuer), page.url());
                await signOn(page, 'ada');
                await loggedIn(page);
                await picture(page, 'signed-on');
            });
            await host.host();
            const claim = claimOf(host.loginToken);
            assert.equal(claim.name, 'ada of the provider');
            assert.equal(claim.email, 'ada@id.example');
            assert.equal(claim.authProvider, 'Example ID');
            assert.doesNotMatch(claim.id, /ada/);

            // The login page offers the provider and nothing else, and one whom the provider knows already is only asked once.
            const guest = meet('guest', edge.http).opening(async url => {
                const page = await context.newPage();
                await page.goto(`${edge.http}/login.html${new URL(url).search}`);
                await picture(page, 'sign-on');
                assert.equal(await page.getByLabel(/name/i).count(), 0, 'nobody just gives a name');
                await page.getByRole('link', { name: 'Log in with Example ID' }).click();
                await loggedIn(page);
            });
            await guest.join(host.roomId);
            assert.equal(claimOf(guest.loginToken).id, claim.id, 'the same person has the same id');
            await host.told('room/joined', ([peer]) => peer.name === 'ada of the provider');
        });

        const form = await fetch(`${edge.http}/api/login/simple`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ token: 'a.b', user: 'eve' }),
        });
        assert.equal(form.status, 404, 'the form is off');

        // CT_SERVER_URL/sso/logout forgets who the browser was.
        const page = await context.newPage();
        await page.goto(`${edge.http}/sso/logout`);
        await page.getByText('You are logged out').waitFor();

        for (const [name, text] of edge.logs()) {
            assert.ok(!text.includes(CLIENT.secret) && !text.includes(encodeURIComponent(CLIENT.secret)), name);
            assert.doesNotMatch(text, /[?&](code=(?!…)|token=[^.]+\.(?!…))/, `a code or a token in ${name}`);
        }
    }));
});

test('CT_SSO_AUTHORIZATION_ENDPT and CT_SSO_TOKEN_ENDPT name the endpoints themselves', { skip }, async () => {
    const variables = (/** @type {SignOnProvider} */ provider) => ({
        CT_SSO_AUTHORIZATION_ENDPT: provider.authorizationEndpoint,
        CT_SSO_TOKEN_ENDPT: provider.tokenEndpoint,
    });
    await withSignOn(variables, edge => withBrowser(async context => {
        await meeting(async meet => {
            const person = meet('bea', edge.http).opening(async url => {
                const page = await context.newPage();
                await page.goto(url);
                await signOn(page, 'bea');
                await loggedIn(page);
            });
            await person.login();
            assert.equal(claimOf(person.loginToken).name, 'bea of the provider');
        });
    }));
});

test('an answer of the provider counts in the browser alone that asked for it, and a refusal is told', { skip }, async () => {
    await withSignOn(provider => ({ CT_SSO_SYSTEM_BASE_URL: provider.issuer }), edge => withBrowser(async context => {
        const { pollToken } = await (await fetch(`${edge.http}/api/login/initial`, { method: 'POST' })).json();
        const begun = await fetch(`${edge.http}/api/login/sso?token=${pollToken}`, { redirect: 'manual' });
        assert.equal(begun.status, 302);
        const state = new URL(/** @type {string} */ (begun.headers.get('location'))).searchParams.get('state');
        const callback = `${edge.http}/sso/authorization-code/callback?state=${state}`;

        // Without the cookie of the browser that was sent there.
        assert.equal((await fetch(`${callback}&code=stolen`)).status, 400);
        const page = await context.newPage();
        await page.goto(`${edge.http}/api/login/sso?token=${pollToken}`);
        await page.goto(`${callback.slice(0, -1)}x&code=forged`);
        await page.getByText('begun in another browser').waitFor();
        await page.goto(`${callback}&error=access_denied`);
        await page.getByText('Example ID did not sign you on: access_denied').waitFor();
        await page.goto(`${callback}&code=invented`);
        await page.getByText('Example ID could not be asked who you are').waitFor();
        assert.match([...edge.logs().values()].join('\n'), /nobody can sign on.*invalid_grant/);

        const unknown = await fetch(`${edge.http}/api/login/sso?token=gone.000000000000000000000000`, { redirect: 'manual' });
        assert.equal(unknown.status, 400);
    }));
});

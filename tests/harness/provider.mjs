//! An OpenID Connect provider: the certified npm library `oidc-provider`, whose own pages ask for a name and for consent.

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

/** What the edge is registered as. */
export const CLIENT = { id: 'edge', secret: 'a secret: with % and +' };

/** A provider that knows everybody by the name that they give. */
export class SignOnProvider {
    /** @param {string} redirectUri where it may send browsers back to */
    static async start(redirectUri) {
        const server = createServer();
        await new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(undefined)));
        const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
        return new SignOnProvider(server, `http://127.0.0.1:${port}`, redirectUri);
    }

    /**
     * @param {import('node:http').Server} server
     * @param {string} issuer
     * @param {string} redirectUri
     */
    constructor(server, issuer, redirectUri) {
        this.server = server;
        this.issuer = issuer;
        this.authorizationEndpoint = `${issuer}/auth`;
        this.tokenEndpoint = `${issuer}/token`;
        const provider = new Provider(issuer, {
            clients: [{ client_id: CLIENT.id, client_secret: CLIENT.secret, redirect_uris: [redirectUri] }],
            cookies: { keys: ['for tests alone'] },
            claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
            pkce: { required: () => true },
            findAccount: (_, id) => ({
                accountId: id,
                claims: () => ({ sub: id, name: `${id} of the provider`, email: `${id}@id.example`, email_verified: true }),
            }),
        });
        server.on('request', provider.callback());
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

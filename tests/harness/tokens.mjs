//! Tokens as a forger would make them, and as the cluster's own key would.

import { createHmac } from 'node:crypto';

/** @param {unknown} value */
function part(value) {
    return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/**
 * The key that signs tokens, derived from the cluster secret as `crates/wire/src/secret.rs` does.
 *
 * @param {string} secret
 */
export function tokenKey(secret) {
    return createHmac('sha256', secret).update('ctedge tokens').digest();
}

/**
 * The token of the nodes' control endpoints.
 *
 * @param {string} secret
 */
export function controlToken(secret) {
    return createHmac('sha256', secret).update('ctedge control').digest('hex');
}

/**
 * @param {Record<string, unknown>} claim
 * @param {Buffer | string} key
 */
export function sign(claim, key) {
    const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claim)}`;
    return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
}

/**
 * The claim of a token, unverified.
 *
 * @param {string} token
 * @returns {Record<string, any>}
 */
export function claimOf(token) {
    return JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
}

/**
 * The same token with another claim under the old signature.
 *
 * @param {string} token
 * @param {Record<string, unknown>} changes
 */
export function tampered(token, changes) {
    const [head, , signature] = token.split('.');
    return `${head}.${part({ ...claimOf(token), ...changes })}.${signature}`;
}

/**
 * A token that claims to need no signature.
 *
 * @param {string} token
 */
export function unsigned(token) {
    return `${part({ alg: 'none', typ: 'JWT' })}.${token.split('.')[1]}.`;
}

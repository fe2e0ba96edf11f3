//! Each kind of store that nodes can share, so that a test holds for all of them.

import { withPostgres, withoutPostgres } from './postgres.mjs';

/**
 * @typedef {object} Kind
 * @property {string} name
 * @property {string | false} skip what is missing for it
 * @property {(use: (settings: string, postgres?: import('./postgres.mjs').Postgres) => Promise<void>) => Promise<void>} open
 *     gives the settings of an edge that uses it
 *
 * @type {Kind[]}
 */
export const STORES = [
    { name: 'SQLite', skip: false, open: use => use('') },
    { name: 'PostgreSQL', skip: withoutPostgres(), open: use => withPostgres(postgres => use(postgres.settings(), postgres)) },
];

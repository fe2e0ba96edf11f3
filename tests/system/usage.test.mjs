//! What is written down of the edge's use: usage.log, the audit, and the figures of each day.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from '../harness/deadline.mjs';
import { temporaryDirectory, withEdge } from '../harness/edge.mjs';
import { meeting } from '../harness/person.mjs';
import { withPostgres, withoutPostgres } from '../harness/postgres.mjs';
import { run, without } from '../harness/programs.mjs';
import { STORES } from '../harness/stores.mjs';

/** A line a second, as no operator needs it. */
const EVERY_SECOND = '[log]\nusage_interval = "1s"\n';

const USAGE = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000 \+0000) users-online=(\d+) users-in-sessions=(\d+)(?: node=(\S+))?$/;

const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The lines of usage.log: when, how many users online, how many in sessions, and of which node alone.
 *
 * @param {import('../harness/edge.mjs').Edge} edge
 */
function usage(edge) {
    const log = [...edge.logs()].find(([name]) => name.endsWith('usage.log'));
    return (log?.[1] ?? '').split('\n').filter(line => line !== '').map(line => {
        const [, time, online, inSessions, node] = USAGE.exec(line) ?? assert.fail(`usage.log has a line ${line}`);
        return { time, online: Number(online), inSessions: Number(inSessions), node };
    });
}

const SQLITE = without({ sqlite3: 'sqlite3' });

/**
 * Carries out statements in the store of an edge, past the edge itself.
 *
 * @param {string} data
 * @param {import('../harness/postgres.mjs').Postgres} [postgres]
 * @returns {(statement: string) => Promise<string>}
 */
function statements(data, postgres) {
    if (postgres) return statement => postgres.sql(statement);
    return async statement => run('sqlite3', ['-cmd', '.timeout 5000', path.join(data, 'ctedge.db'), statement]).said.trim();
}

/**
 * What a SELECT of these columns gives.
 *
 * @param {(statement: string) => Promise<string>} sql
 * @param {string[]} columns
 * @param {string} from
 * @returns {Promise<Record<string, string>[]>}
 */
async function selected(sql, columns, from) {
    const said = await sql(`SELECT ${columns.join(', ')} FROM ${from}`);
    const lines = said.split('\n').filter(line => line !== '').map(line => line.split('|'));
    return lines.map(line => Object.fromEntries(columns.map((column, position) => [column, line[position]])));
}

/** The audit, the earliest entry first. @param {(statement: string) => Promise<string>} sql */
function audit(sql) {
    const columns = ['at_ms', 'event', 'session_key', 'node', 'user_name', 'user_email', 'client', 'reason'];
    return selected(sql, columns, 'audit ORDER BY at_ms, id');
}

/** The figures of each day. @param {(statement: string) => Promise<string>} sql */
function days(sql) {
    const columns = ['day', 'sessions', 'joins', 'ended', 'sessions_most', 'users_online_most', 'users_in_sessions_most'];
    return selected(sql, columns, 'usage_days ORDER BY day');
}

for (const { name, skip, open } of STORES) {
    test(`usage.log, the audit and the figures of the day tell of sessions from beginning to end, with ${name}`, { skip: skip || SQLITE }, async () => {
        await open(async (settings, postgres) => {
            await withEdge({ nodes: 2, config: settings + EVERY_SECOND }, edge => {
                return toldFromBeginningToEnd(edge, statements(edge.data, postgres));
            });
        });
    });
}

/**
 * @param {import('../harness/edge.mjs').Edge} edge
 * @param {(statement: string) => Promise<string>} sql
 */
async function toldFromBeginningToEnd(edge, sql) {
    /** @type {string[]} */
    const secrets = [];
    const began = Date.now();
    await meeting(async meet => {
        const ada = await meet('ada', edge.http).host();
        const grace = await meet('grace', edge.http).join(ada.roomId);
        const again = await meet('ada', edge.http).host();
        secrets.push(...[ada, grace, again].flatMap(person => [person.roomToken, person.loginToken]));
        await eventually('two users', () => {
            const { online, inSessions } = usage(edge).at(-1) ?? {};
            return online === 2 && inSessions === 2;
        }, 30_000);
        await eventually('both sessions at once', async () => {
            const day = (await days(sql)).at(-1);
            return ['sessions_most', 'users_online_most', 'users_in_sessions_most'].every(most => day?.[most] === '2');
        }, 30_000);
        await grace.leave();
        await eventually('who has left', async () => (await audit(sql)).some(({ event }) => event === 'left'));
        await ada.leave();
        await again.leave();
        const ended = async () => (await audit(sql)).filter(({ event }) => event === 'ended').length === 2;
        await eventually('ends', ended);

        const entries = await audit(sql);
        const ofFirst = entries.filter(({ session_key }) => session_key === ada.roomId);
        assert.deepEqual(ofFirst.map(({ event, user_name, reason }) => `${event} ${user_name} ${reason}`.trim()), [
            'created ada', 'joined grace', 'left grace', 'ended ada host-left',
        ]);
        const ofSecond = entries.filter(({ session_key }) => session_key === again.roomId);
        assert.deepEqual(ofSecond.map(({ event }) => event), ['created', 'ended']);
        assert.equal(entries.length, 6);
        for (const entry of entries) {
            assert.equal(entry.user_email, `${entry.user_name}@example.org`);
            assert.match(entry.client, /^ctedge system test/);
            assert.match(entry.node, /^node-[12]$/);
            assert.ok(Number(entry.at_ms) >= began && Number(entry.at_ms) <= Date.now(), entry.at_ms);
        }
    });
    await eventually('nobody', () => usage(edge).at(-1)?.online === 0, 30_000);

    const lines = usage(edge);
    const together = lines.slice(lines.findIndex(({ online }) => online > 0));
    assert.deepEqual(together.filter(({ node }) => node), [], 'one node speaks for both');
    assert.equal(new Set(together.map(({ time }) => time)).size, together.length, 'one line at a time');

    const figures = await days(sql);
    // The day may have changed meanwhile.
    const sum = (/** @type {string} */ column) => figures.reduce((sum, day) => sum + Number(day[column]), 0);
    assert.deepEqual(['sessions', 'joins', 'ended'].map(sum), [2, 1, 2]);
    const most = (/** @type {string} */ column) => Math.max(...figures.map(day => Number(day[column])));
    assert.deepEqual(['sessions_most', 'users_online_most', 'users_in_sessions_most'].map(most), [2, 2, 2]);
    const [{ users }] = await selected(sql, ['users'], '(SELECT COUNT(DISTINCT user_identity) AS users FROM usage_users) AS counted');
    assert.equal(users, '2');
    const kept = await sql('SELECT * FROM audit');
    for (const secret of secrets) assert.ok(secret && !kept.includes(secret), 'a token is kept');
}

test('usage.log goes on, one line at a time, when the node that writes it is killed and comes back', async () => {
    await withEdge({ nodes: 2, config: EVERY_SECOND }, async edge => {
        await meeting(async meet => {
            const ada = await meet('ada', edge.http).host();
            await meet('grace', edge.http).join(ada.roomId);
            const more = async (/** @type {number} */ count) => {
                const { length } = usage(edge);
                await eventually(`${count} lines`, () => usage(edge).length >= length + count, 30_000);
            };
            await eventually('two users', () => usage(edge).at(-1)?.online === 2, 30_000);
            for (const id of ['node-1', 'node-2']) {
                const pid = await edge.killNode(id);
                await more(2);
                await edge.admin.anotherProcess(id, pid);
                await more(3);
            }
            await eventually('both again', () => usage(edge).at(-1)?.online === 2, 30_000);
        });
        const times = usage(edge).filter(({ node }) => !node).map(({ time }) => time);
        assert.equal(new Set(times).size, times.length, times.join('\n'));
        assert.deepEqual(times, [...times].sort(), 'in order');
    });
});

for (const { name, skip, open } of STORES) {
    test(`what is older than store.audit_days is deleted, and nothing else, with ${name}`, { skip: skip || SQLITE }, async () => {
        await open(async (settings, postgres) => {
            const data = temporaryDirectory('usage');
            const options = { data, nodes: 1, config: settings || '[store]\nurl = "sqlite:ctedge.db"\n' };
            options.config += 'audit_days = 2\n';
            const sql = statements(data, postgres);
            await withEdge(options, async () => {});
            const aged = [1, 3, 30].map(age => `(${Date.now() - age * DAY_MS}, 'left', 'aged-${age}', 'node-1')`);
            await sql(`INSERT INTO audit (at_ms, event, session_key, node) VALUES ${aged}`);
            assert.match(await sql('SELECT COUNT(*) FROM audit'), /^3\s*$/);
            await withEdge(options, async edge => {
                await eventually('deletion', async () => (await audit(sql)).length === 1);
                assert.deepEqual((await audit(sql)).map(({ session_key }) => session_key), ['aged-1']);
            });
            rmSync(data, { recursive: true, force: true });
        });
    });
}

test('while the store is away a join is as fast as ever, and what it leaves is written when the store is back', { skip: withoutPostgres() }, async () => {
    await withPostgres(async postgres => {
        const sql = statements('', postgres);
        // Whoever waited for the store would wait for this long.
        const config = `${postgres.settings()}timeout = "20s"\n${EVERY_SECOND}`;
        await withEdge({ nodes: 2, config }, async edge => {
            await meeting(async meet => {
                const ada = await meet('ada', edge.http).host();
                await meet('grace', edge.http).join(ada.roomId);
                postgres.freeze();
                const began = Date.now();
                await meet('alan', edge.http).join(ada.roomId);
                const took = Date.now() - began;
                assert.ok(took < 10_000, `the join took ${took} ms`);
                const ownLines = (/** @type {string} */ id) => usage(edge).filter(({ node }) => node === id);
                await eventually('a line of each node alone', () => ownLines('node-1').length > 0 && ownLines('node-2').length > 0, 30_000);
                const online = ['node-1', 'node-2'].map(id => ownLines(id).at(-1)?.online).sort();
                assert.deepEqual(online, [0, 3]);
                postgres.thaw();
                const joined = async () => (await audit(sql)).filter(({ event }) => event === 'joined');
                await eventually('both joins', async () => (await joined()).length >= 2, 60_000);
                assert.deepEqual((await joined()).map(({ user_name }) => user_name), ['grace', 'alan']);
                const line = usage(edge).length;
                await eventually('lines of both nodes together', () => {
                    return usage(edge).slice(line).some(({ online, node }) => online === 3 && !node);
                }, 60_000);
            });
        });
    });
});

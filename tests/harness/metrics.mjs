//! Prometheus metrics as a test reads them.

import assert from 'node:assert/strict';

/** One scrape. */
export class Metrics {
    /**
     * @param {string} url of the metrics
     */
    static async of(url) {
        const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
        assert.equal(response.status, 200, url);
        return new Metrics(await response.text());
    }

    /** @param {string} text */
    constructor(text) {
        this.text = text;
        /** @type {{ name: string, labels: Record<string, string>, value: number }[]} */
        this.samples = text.split('\n').filter(line => line && !line.startsWith('#')).map(line => {
            const [, name, labels = '', value] = /** @type {string[]} */ (/^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line));
            const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, text]) => [label, text]);
            return { name, labels: Object.fromEntries(pairs), value: Number(value) };
        });
    }

    /**
     * The sum of all samples of a metric that have these labels; 0 if there is none.
     *
     * @param {string} name
     * @param {Record<string, string>} [labels]
     */
    sum(name, labels = {}) {
        const has = (/** @type {{ name: string, labels: Record<string, string> }} */ sample) =>
            sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text);
        return this.samples.filter(has).reduce((sum, sample) => sum + sample.value, 0);
    }

    /**
     * Whether there is such a metric at all, whatever its value.
     *
     * @param {string} name
     */
    has(name) {
        return this.samples.some(sample => sample.name === name);
    }
}

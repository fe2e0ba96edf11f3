'use strict';
// The page knows the public URL better than the server does: a proxy may have put a path before it.
const base = new URL('.', location.href);
const setting = document.getElementById('setting');
setting.textContent = `"oct.serverUrl": "${base.href.replace(/\/$/, '')}"`;

const copy = document.getElementById('copy');
if (navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(setting.textContent);
    copy.textContent = 'Copied';
  });
}

const line = document.getElementById('status');
function show(text, good) {
  line.textContent = text;
  line.className = good ? 'good' : 'bad';
}

async function ask() {
  try {
    const response = await fetch(new URL('ct-health/', base));
    const report = await response.json();
    const nodes = report.nodes === undefined ? '' : ` ${report.nodes_up} of ${report.nodes} nodes are up.`;
    show(response.ok && report.status === 'ready' ? `● Ready for sessions.${nodes}` : `● Not taking sessions at the moment.${nodes}`,
      response.ok && report.status === 'ready');
  } catch {
    show('● The server cannot be reached.', false);
  }
}
ask();
setInterval(ask, 15000);

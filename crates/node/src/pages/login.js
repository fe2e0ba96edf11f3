'use strict';
// Without this script the forms post themselves and the server answers with a page; with it the answer shows in place.
const forms = document.getElementById('forms');
const done = document.getElementById('done');
const failed = document.getElementById('failed');

function fail(message) {
  failed.textContent = message;
  failed.hidden = false;
}

async function send(form) {
  const response = await fetch(form.action, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    credentials: 'same-origin',
    body: JSON.stringify(Object.fromEntries(new FormData(form)))
  });
  if (response.ok) {
    forms.hidden = true;
    done.hidden = false;
    done.focus();
    return;
  }
  const info = await response.json().catch(() => ({}));
  fail(info.code === 'AuthTimeout'
    ? 'This login has expired or was used already. Please start it again from your editor.'
    : info.message || 'The login failed. Please try again.');
}

for (const form of document.querySelectorAll('form')) {
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const button = form.querySelector('button');
    failed.hidden = true;
    button.disabled = true;
    try {
      await send(form);
    } catch {
      fail('The server cannot be reached. Please check your connection and try again.');
    } finally {
      button.disabled = false;
    }
  });
}

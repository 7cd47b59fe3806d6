(() => {
'use strict';
const root = document.documentElement;
window.addEventListener('error', e => { root.dataset.error = e.message; });

const byId = id => document.getElementById(id);
const data = JSON.parse(byId('data').textContent);
const panel = byId('panel');
const main = byId('main');
const looks = new Map(data.looks.map(l => [l.verdict, l]));
const look = v => looks.get(v) || data.looks[data.looks.length - 1];

// el makes an element. Text is always set as text, never as markup.
function el(tag, attrs, ...kids) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, '');
    else if (v !== false && v != null) e.setAttribute(k, v);
  }
  e.append(...kids.flat(Infinity).filter(k => k != null && k !== false));
  return e;
}

function duration(ms) {
  if (ms < 1000) return ms + ' ms';
  if (ms < 60000) return (ms / 1000).toFixed(1) + ' s';
  return Math.floor(ms / 60000) + ' min ' + Math.floor(ms / 1000) % 60 + ' s';
}

// ---- addresses: #scenario@kernel is a cell, #@kernel a kernel, #/view a view

const encode = s => encodeURIComponent(s).replace(/%2F/g, '/').replace(/%40/g, '@');
const address = (r, k) =>
  '#' + (r == null ? '' : encode(data.rows[r].name)) + '@' + encode(data.kernels[k].key);

function resolve(hash) {
  let text = hash.replace(/^#/, '');
  try { text = decodeURIComponent(text); } catch { /* taken as it is */ }
  for (let at = text.lastIndexOf('@'); at >= 0; at = text.lastIndexOf('@', at - 1)) {
    const k = data.kernels.findIndex(kernel => kernel.key === text.slice(at + 1));
    const name = text.slice(0, at);
    if (k >= 0 && name === '') return { r: null, k };
    const r = data.rows.findIndex(row => row.name === name);
    if (k >= 0 && r >= 0 && data.rows[r].cells[k]) return { r, k };
    if (at === 0) break;
  }
  return null;
}

// ---- the parts of a panel

// copyButton copies text; where the clipboard is out of reach it selects what is to be copied.
function copyButton(text, source) {
  const button = el('button', { type: 'button', class: 'btn', onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(source);
      document.execCommand('copy');
    }
    button.textContent = 'copied';
    setTimeout(() => { button.textContent = 'copy'; }, 1500);
  } }, 'copy');
  return button;
}

function block(title, text, log) {
  if (!text) return [];
  const pre = el('pre', log ? { class: 'log', tabindex: 0, 'aria-label': title } : null, text);
  return [el('h3', null, title, copyButton(text, pre)), pre];
}

// changed splits want and got into what they share at both ends and what differs between.
function changed(want, got) {
  let a = 0;
  const n = Math.min(want.length, got.length);
  while (a < n && want[a] === got[a]) a++;
  let z = 0;
  while (z < n - a && want[want.length - 1 - z] === got[got.length - 1 - z]) z++;
  const part = (s, tag) => [s.slice(0, a),
    s.length > a + z ? el(tag, null, s.slice(a, s.length - z)) : null, s.slice(s.length - z)];
  return [part(want, 'del'), part(got, 'ins')];
}

function delta(want, got) {
  if (!/^-?\d{1,15}$/.test(want) || !/^-?\d{1,15}$/.test(got)) return null;
  const d = Number(got) - Number(want);
  return el('span', { class: 'delta' }, (d > 0 ? '+' : '') + d);
}

function fieldTable(fields) {
  const none = s => (s === '' ? el('span', { class: 'quiet' }, 'none') : s);
  const number = /^-?\d+$/;
  const body = fields.map(f => {
    const whole = f.want === '' || f.got === '' || (number.test(f.want) && number.test(f.got));
    const [want, got] = whole
      ? [f.want === '' ? none('') : el('del', null, f.want),
        f.got === '' ? none('') : el('ins', null, f.got)]
      : changed(f.want, f.got);
    return el('tr', null, el('th', { scope: 'row' }, f.name),
      el('td', null, want), el('td', null, got, delta(f.want, f.got)));
  });
  return el('table', { class: 'fields' }, el('thead', null, el('tr', null,
    el('th', { scope: 'col' }, 'field'), el('th', { scope: 'col' }, 'want'),
    el('th', { scope: 'col' }, 'got'))), el('tbody', null, body));
}

function difference(d) {
  const lone = { missing: 'want', extra: 'got', duplicate: 'twice' }[d.kind];
  const tag = { missing: 'del', extra: 'ins', duplicate: 'ins' }[d.kind];
  return el('div', { class: 'diff' },
    el('p', null, el('b', null, d.kind), el('span', null, d.section +
      (d.against ? ' against ' + d.against : ''))),
    lone
      ? el('div', { class: 'lone' }, el('span', null, lone),
        el('pre', null, el(tag, null, d.record)))
      : el('pre', null, d.record),
    d.fields && d.fields.length ? fieldTable(d.fields) : null);
}

function differences(c) {
  const list = c.differences || [];
  if (!list.length) return [];
  const n = list.length + (c.more || 0);
  return [el('h3', null, n + (n === 1 ? ' difference' : ' differences')),
    list.map(difference),
    c.more ? el('p', { class: 'quiet' },
      'and ' + c.more + ' more; results.json has them all') : null];
}

// ---- the sequence chart: hosts are lifelines, frames arrows, ◆ marks where the agent sees them

const ROW = 22, LEFT = 70, TOP = 34;

function shape(tag, attrs, ...kids) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  e.append(...kids);
  return e;
}

function arrow(c, item, y, step, width) {
  const x = i => LEFT + i * step;
  const from = item.from < 0 ? LEFT / 3 : x(item.from);
  const to = item.to >= 0 ? x(item.to)
    : item.from === c.hosts.length - 1 && item.from > 0 ? from - step * .6 : from + step * .6;
  const head = to < from ? 6 : -6;
  const marks = [item.count > 1 && '×' + item.count, ...(item.marks || []), item.to === -2 && 'to all']
    .filter(Boolean).join(', ');
  const parts = [
    shape('text', { x: Math.min(Math.max((from + to) / 2, 60), width - 60), y: y - 5, class: 'what' },
      item.text + (marks ? ' (' + marks + ')' : '')),
    shape('path', { d: `M${from} ${y}H${to}`, class: item.kind === 'note' ? 'arrow note' : 'arrow' }),
    shape('path', { d: `M${to + head} ${y - 4}L${to} ${y}L${to + head} ${y + 4}`, class: 'arrow' })];
  for (const i of item.seen || []) parts.push(shape('text', { x: x(i), y: y + 4, class: 'seen' }, '◆'));
  return parts;
}

function chart(c) {
  if (!c || !c.items.length) return [];
  const widest = Math.max(...c.items.filter(i => i.kind === 'message').map(i => i.text.length), 10);
  const step = c.hosts.length > 3 ? 150 : Math.max(170, Math.min(360, widest * 7 + 16));
  const width = 2 * LEFT + step * Math.max(1, c.hosts.length - 1);
  const rows = [];
  let y = TOP;
  for (const item of c.items) {
    const band = item.kind === 'step' || item.kind === 'event' || item.from < 0 && item.kind === 'note';
    y += band ? ROW : ROW + 10;
    if (band) {
      rows.push(shape('rect', { x: 0, y: y - 13, width, height: 18, class: item.kind }),
        shape('text', { x: 6, y, class: 'step' }, (item.line ? item.line + '  ' : '') + item.text));
    } else rows.push(...arrow(c, item, y, step, width));
  }
  const lives = c.hosts.flatMap((h, i) => [
    shape('line', { x1: LEFT + i * step, x2: LEFT + i * step, y1: TOP - 8, y2: y + 8, class: 'life' }),
    shape('text', { x: LEFT + i * step, y: TOP - 14, class: 'host' },
      h.name + (h.watched ? ' ◆' + h.watched.join(',') : ''))]);
  const height = y + 14;
  return [el('h3', null, 'sequence'), el('div', { class: 'chart', tabindex: 0,
    role: 'group', 'aria-label': 'Sequence chart' },
  shape('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': c.items.length + ' rows between ' + c.hosts.map(h => h.name).join(', ') },
  ...lives, ...rows)),
  c.more ? el('p', { class: 'quiet' }, 'and ' + c.more + ' more rows; weir sim explain draws them all') : null];
}

// strip shows the scenario on every kernel.
function strip(r, k) {
  const cells = data.rows[r].cells;
  return el('div', { class: 'strip' }, cells.map((c, i) => c && el('a', {
    href: address(r, i), class: look(c.verdict).family,
    'aria-current': i === k && 'true', title: c.verdict,
  }, el('span', { class: 'glyph' }, look(c.verdict).glyph), data.kernels[i].key)));
}

function cellView(r, k) {
  const row = data.rows[r], kernel = data.kernels[k], c = row.cells[k], l = look(c.verdict);
  return el('div', { class: 'detail' },
    el('h2', { tabindex: -1 }, row.name, el('span', { class: 'at' }, ' on ' + kernel.key)),
    row.summary ? el('p', { class: 'summary' }, row.summary) : null,
    el('div', { class: 'verdict ' + l.family },
      el('b', null, l.glyph + ' ' + c.verdict),
      el('span', null, (c.reason || l.what) + (c.change ? '; ' + c.change : '')),
      el('span', { class: 'ms' }, duration(c.ms) +
        (c.packets ? ', ' + c.packets + (c.packets === 1 ? ' packet' : ' packets') : ''))),
    differences(c),
    block('notes', (c.notes || []).join('\n'), true),
    block('reproduce', c.reproduce),
    block('console', c.console, true),
    chart(row.chart),
    block('agent log', c.agent_log, true),
    el('h3', null, 'on every kernel'), strip(r, k));
}

function kernelView(k) {
  const kernel = data.kernels[k];
  const counts = data.looks.map(l => [l, data.rows.filter(row =>
    row.cells[k] && row.cells[k].verdict === l.verdict).length]).filter(([, n]) => n);
  const facts = [['version', kernel.version], ['package', kernel.package],
    ['sha256', kernel.sha256], ['acceleration', kernel.accel],
    ['boot', kernel.boot_ms && kernel.boot_ms + ' ms'],
    ['crashed while booting', (kernel.boot_crashes || []).join('\n\n')],
    ['verified', Object.entries(kernel.verified || {}).map(([p, n]) => p + ' ' + n).join(', ')],
    ['restores', kernel.restores], ['total', kernel.ms + ' ms'],
    ['scenarios', counts.map(([l, n]) => n + ' ' + l.verdict).join(', ')]];
  return el('div', { class: 'detail' },
    el('h2', { tabindex: -1 }, 'kernel ' + kernel.key),
    kernel.unavailable ? el('div', { class: 'verdict harness' },
      el('b', null, '∅ unavailable'), el('span', null, kernel.unavailable)) : null,
    el('dl', null, facts.filter(([, v]) => v).map(([t, v]) =>
      [el('dt', null, t), el('dd', null, t === 'sha256' ? el('code', null, v) : v)])));
}

// ---- opening and closing

const cells = [...document.querySelectorAll('.cell')];
const at = (r, k) => document.querySelector(`.cell[data-r="${r}"][data-k="${k}"]`);
const visible = c => !c.closest('tr').hidden && !c.closest('td').hidden;
const isRed = c => look(data.rows[c.dataset.r].cells[c.dataset.k].verdict).red;
let current = null; // the cell or kernel button that is open

function show(place) {
  if (current) current.classList.remove('on');
  current = place.r == null
    ? document.querySelector(`thead button[data-k="${place.k}"]`) : at(place.r, place.k);
  current.classList.add('on');
  view('matrix');
  const step = (label, by) => el('button', { type: 'button', class: 'btn',
    disabled: !cells.some(isRed), onclick: () => nextRed(by) }, label);
  panel.replaceChildren(
    el('div', { class: 'panel-bar' }, step('← previous red', -1), step('next red →', 1),
      el('button', { type: 'button', class: 'btn close', onclick: close }, 'close')),
    place.r == null ? kernelView(place.k) : cellView(place.r, place.k));
  panel.hidden = false;
  main.classList.add('open');
  panel.scrollTop = 0;
  if (place.r != null) {
    current.closest('tr').hidden = false;
    current.closest('tbody').hidden = false;
    if (current.closest('td').hidden) column('');
    rove(current);
    current.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }
  panel.querySelector('h2').focus({ preventScroll: true });
}

function hide() {
  if (panel.hidden) return;
  panel.hidden = true;
  main.classList.remove('open');
  panel.replaceChildren();
  current.classList.remove('on');
  current.focus({ preventScroll: true });
  current = null;
}

function close() {
  try { history.pushState(null, '', location.href.split('#')[0]); } catch { /* stays */ }
  hide();
}

// route goes to where the address says: #/view, #@kernel or #scenario@kernel.
function route() {
  const [, name] = location.hash.match(/^#\/(\w+)$/) || [];
  if (name && document.querySelector(`section[data-view="${name}"]`)) {
    hide();
    view(name);
    return;
  }
  const place = resolve(location.hash);
  if (place) show(place); else hide();
}

function open(r, k) {
  const to = address(r, k);
  if (location.hash === to) route(); else location.hash = to;
}

function nextRed(by) {
  const list = cells.filter(c => visible(c) && isRed(c));
  if (!list.length) return;
  const from = current && current.classList.contains('cell') ? cells.indexOf(current)
    : by > 0 ? -1 : cells.length;
  const next = by > 0 ? list.find(c => cells.indexOf(c) > from) || list[0]
    : list.findLast(c => cells.indexOf(c) < from) || list[list.length - 1];
  open(Number(next.dataset.r), Number(next.dataset.k));
}

// ---- moving about: one cell is in the tab order, arrows go to its neighbours

function rove(cell) {
  for (const c of cells) if (c.tabIndex === 0) c.tabIndex = -1;
  if (cell) cell.tabIndex = 0;
}

function neighbour(cell, key) {
  const rows = [...document.querySelectorAll('tr[data-r]')].filter(t => !t.hidden);
  const k = Number(cell.dataset.k);
  const inRow = tr => [...tr.querySelectorAll('.cell')].filter(c => !c.closest('td').hidden);
  const list = inRow(cell.closest('tr'));
  const i = list.indexOf(cell);
  switch (key) {
    case 'ArrowLeft': return list[i - 1];
    case 'ArrowRight': return list[i + 1];
    case 'Home': return list[0];
    case 'End': return list[list.length - 1];
  }
  const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[key];
  if (!by) return null;
  let r = rows.indexOf(cell.closest('tr')) + by;
  if (Math.abs(by) > 1) r = Math.max(0, Math.min(rows.length - 1, r));
  for (; rows[r]; r += Math.sign(by)) {
    const c = inRow(rows[r]).find(c => Number(c.dataset.k) === k);
    if (c) return c;
  }
  return null;
}

byId('matrix').addEventListener('click', e => {
  const b = e.target.closest('button[data-k]');
  if (b) open(b.dataset.r == null ? null : Number(b.dataset.r), Number(b.dataset.k));
});

byId('matrix').addEventListener('keydown', e => {
  const cell = e.target.closest('.cell');
  if (!cell || e.ctrlKey || e.metaKey || e.altKey) return;
  const next = neighbour(cell, e.key);
  if (!next) return;
  e.preventDefault();
  rove(next);
  next.focus();
});

document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = e.target instanceof Element && e.target.matches('input, select');
  if (e.key === 'Escape') {
    if (typing && e.target.type !== 'checkbox' && e.target.value) {
      e.target.value = '';
      filter();
    } else close();
  } else if (typing) {
    return;
  } else if (e.key === '/') {
    e.preventDefault();
    byId('text').focus();
  } else if (e.key === 'n') nextRed(1);
  else if (e.key === 'p') nextRed(-1);
});

// ---- filters

const chips = [...document.querySelectorAll('.chip')];

function filter() {
  const words = byId('text').value.toLowerCase().split(/\s+/).filter(Boolean);
  const red = byId('red').checked;
  const changed = byId('changed') && byId('changed').checked;
  const tag = byId('tag') ? byId('tag').value : '';
  const only = byId('kernel').value;
  const inView = (c, k) => c && (only === '' || k === Number(only));
  const on = new Set(chips.filter(c => c.getAttribute('aria-pressed') === 'true')
    .map(c => c.dataset.verdict));
  let shown = 0;
  for (const tr of document.querySelectorAll('tr[data-r]')) {
    const row = data.rows[tr.dataset.r];
    const list = row.cells.filter(inView);
    const verdicts = list.map(c => look(c.verdict));
    const text = (row.name + ' ' + (row.summary || '') + ' ' + (row.tags || []).join(' ') + ' ' +
      list.map(c => (c && c.reason) || '').join(' ')).toLowerCase();
    const ok = list.length > 0 && words.every(w => text.includes(w)) &&
      (!red || verdicts.some(l => l.red)) && (!changed || list.some(c => c.change)) &&
      (!tag || (row.tags || []).includes(tag)) &&
      (!on.size || verdicts.some(l => on.has(l.verdict)));
    tr.hidden = !ok;
    if (ok) shown++;
  }
  for (const body of document.querySelectorAll('#matrix tbody')) {
    body.hidden = !body.querySelector('tr[data-r]:not([hidden])');
  }
  column(only);
  const n = data.rows.length;
  byId('shown').textContent = shown === n
    ? n + (n === 1 ? ' scenario' : ' scenarios') : shown + ' of ' + n + ' scenarios';
  byId('empty').hidden = shown > 0;
  if (!cells.some(c => c.tabIndex === 0 && visible(c))) rove(cells.find(visible));
}

// column shows one kernel's column, or all.
function column(only) {
  byId('matrix').dataset.only = only;
  for (const th of document.querySelectorAll('#matrix thead .kernel')) {
    th.hidden = only !== '' && th.querySelector('button').dataset.k !== only;
  }
  for (const tr of document.querySelectorAll('#matrix tr[data-r]')) {
    [...tr.cells].slice(1).forEach((td, k) => { td.hidden = only !== '' && k !== Number(only); });
  }
}

byId('tools').addEventListener('submit', e => e.preventDefault());
byId('text').addEventListener('input', filter);
for (const id of ['red', 'changed', 'kernel', 'tag']) {
  if (byId(id)) byId(id).addEventListener('change', filter);
}
for (const c of chips) {
  c.addEventListener('click', () => {
    c.setAttribute('aria-pressed', c.getAttribute('aria-pressed') !== 'true');
    filter();
  });
}
byId('clear').addEventListener('click', () => {
  byId('text').value = '';
  byId('red').checked = false;
  if (byId('changed')) byId('changed').checked = false;
  byId('kernel').value = '';
  if (byId('tag')) byId('tag').value = '';
  for (const c of chips) c.setAttribute('aria-pressed', 'false');
  filter();
});

// ---- views

function view(name) {
  for (const s of document.querySelectorAll('section[data-view]')) s.hidden = s.dataset.view !== name;
  for (const b of byId('views').children) b.setAttribute('aria-pressed', b.dataset.view === name);
  byId('tools').hidden = name !== 'matrix';
}
byId('views').addEventListener('click', e => {
  const b = e.target.closest('button');
  if (!b) return;
  try { history.pushState(null, '', '#/' + b.dataset.view); } catch { /* stays */ }
  route();
});

// ---- printing: the red cells follow the matrix

window.addEventListener('beforeprint', () => {
  byId('print').replaceChildren(...cells.filter(c => visible(c) && isRed(c))
    .map(c => cellView(Number(c.dataset.r), Number(c.dataset.k))));
});
window.addEventListener('afterprint', () => byId('print').replaceChildren());

window.addEventListener('hashchange', route);
window.addEventListener('popstate', route);
filter();
route();
root.dataset.ready = 'true';
})();

'use strict'
const $ = (q, at = document) => at.querySelector(q)
const SVG = 'http://www.w3.org/2000/svg'

// An element. All texts come in by `append`, as text: nothing that a model wrote is ever read as HTML.
function el(tag, props = {}, ...inside) {
  const e = ['svg', 'path', 'text', 'circle'].includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag)
  for (const [k, v] of Object.entries(props)) if (k.startsWith('on')) e.addEventListener(k.slice(2), v); else if (v !== null) e.setAttribute(k, v)
  e.append(...inside.filter(x => x !== null))
  return e
}
const count = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`
function clip(s, n) {
  if (s.length <= n) return s
  const code = s.charCodeAt(n - 1)
  return s.slice(0, code >= 0xd800 && code < 0xdc00 ? n - 1 : n) + '…'
}

// Light, dark, or as the system has it.
{
  const modes = ['system', 'light', 'dark'], button = $('#theme'), root = document.documentElement
  root.classList.add('js')
  button.addEventListener('click', () => {
    const next = modes[(modes.indexOf(root.dataset.theme || 'system') + 1) % 3]
    if (next === 'system') delete root.dataset.theme; else root.dataset.theme = next
    button.textContent = `Theme: ${next}`
  })
}

async function unpack() {
  if (typeof DecompressionStream === 'undefined') throw Error('this browser cannot unpack the data of this page; one of 2023 or later can. The pictures and tables are complete without it.')
  const bytes = Uint8Array.from(atob($('#island').textContent.trim()), c => c.charCodeAt(0))
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).json()
}

function report(D) {
  const N = D.a.length, KINDS = ['seed', 'initial', 'low', 'high', 'instance', 'dropped']
  const NAMES = { seed: 'Seed', initial: 'Initial instance', low: 'Low-level principle', high: 'High-level principle', instance: 'Instance', dropped: 'Dropped candidate' }
  const MANY = { seed: 'seeds', initial: 'initial instances', low: 'low-level principles', high: 'high-level principles', instance: 'instances' }
  if (D.level === 'low') { NAMES.high = 'Followed principle'; MANY.high = 'followed principles' }   // low-level ones, as they are
  if (D.source) { NAMES.initial = 'Source instance'; MANY.initial = 'source instances' }
  const first = Object.fromEntries(KINDS.map((k, i) => [k, D.at[i]])), size = k => D.at[KINDS.indexOf(k) + 1] - first[k]
  const range = k => Array.from({ length: size(k) }, (_, i) => first[k] + i)
  const kind = n => KINDS[D.at.findLastIndex((x, i) => i < 6 && x <= n && D.at[i + 1] > n)]
  const request = n => D.q[n] < 0 ? null : D.requests[D.q[n]]
  const similar = n => D.sim[n] < 0 ? '' : D.near[n] === -2 ? `under ${D.sim[n]}%` : `${D.sim[n]}%`

  // Both ways: a record names its request, a request names what it was shown.
  const parents = n => (request(n) || [, , []])[2]
  const made = D.requests.map(() => []), shownIn = new Map()
  for (let n = 0; n < first.dropped; n++) if (D.q[n] >= 0) made[D.q[n]].push(n)
  D.requests.forEach((r, q) => { for (const p of r[2]) if (typeof p === 'number') { if (!shownIn.has(p)) shownIn.set(p, []); shownIn.get(p).push(q) } })
  function walk(n, step) {
    const seen = new Set([n]), todo = [n]
    for (let i = 0; i < todo.length; i++) for (const m of step(todo[i])) if (!seen.has(m)) { seen.add(m); todo.push(m) }
    return todo.slice(1)
  }
  const up = n => walk(n, m => parents(m).filter(p => typeof p === 'number'))
  function requestsFrom(n) {   // all requests that what came of `n` was shown in
    const found = new Set(), seen = new Set([n]), todo = [n]
    for (let i = 0; i < todo.length; i++) for (const q of shownIn.get(todo[i]) || []) if (!found.has(q)) { found.add(q); for (const m of made[q]) if (!seen.has(m)) { seen.add(m); todo.push(m) } }
    return found
  }
  const near = n => kind(n) === 'seed' ? new Set(shownIn.get(n) || []) : requestsFrom(n)   // for the filter: by way of the principles, most seeds lead to everything
  const down = n => [...new Set([...requestsFrom(n)].flatMap(q => made[q]))]
  const byKind = ns => { const out = {}; for (const n of ns) (out[kind(n)] ||= []).push(n); return out }

  // Pieces of the page
  const mark = j => el('svg', { width: 28, height: 28, viewBox: '-16 -16 32 32', class: 'mk', role: 'img', 'aria-label': `cluster ${j}` },
    el('path', { d: D.shapes[j % D.shapes.length], fill: D.colours[j % D.colours.length] }),
    el('text', { y: { 2: 6.5, 4: 1.5 }[j % 8] ?? 3.8, 'text-anchor': 'middle', 'font-size': j > 9 ? 9 : 11, 'font-weight': 700, fill: '#fff' }, String(j)))
  const link = (n, most = 140) => typeof n !== 'number' ? el('li', {}, `${n} (not in this folder)`) :
    el('li', {}, el('button', { type: 'button', dir: 'auto', 'data-n': n, onclick: () => open(n) }, clip(D.a[n], most) || '(empty)'))
  function links(ns, most = 20) {
    const list = el('ul', { class: 'links' }, ...ns.slice(0, most).map(n => link(n)))
    if (ns.length > most) list.append(el('li', {}, el('button', { type: 'button', class: 'more', onclick: e => { const li = e.target.parentNode; ns.slice(most, most + 500).forEach(n => list.insertBefore(link(n), li)); li.replaceChildren(ns.length > most + 500 ? `… and ${(ns.length - most - 500).toLocaleString('en')} more` : ''); list.children[most].firstChild.focus?.() } }, `${(ns.length - most).toLocaleString('en')} more`)))
    return list
  }
  function block(label, s, most = 3000) {
    if (!s) return null
    const box = el('div', { class: 'text', dir: 'auto', tabindex: -1 }, clip(s, most)), out = el('div', {}, el('div', { class: 'label' }, label), box)
    if (s.length > most) out.append(el('button', { type: 'button', class: 'more', onclick: e => { box.textContent = s; e.target.remove(); box.focus() } }, `show all ${s.length.toLocaleString('en')} characters`))
    return out
  }
  const where = r => `${r[0]}, request ${r[1]}`
  function shares(i) {   // the clusters of low-level principle i
    const own = D.clusters ? D.clusters.flatMap((c, j) => c.filter(m => m[0] === i).map(m => [j, m[1]])).sort((a, b) => b[1] - a[1]) : []
    return own.map(([j, w]) => el('div', { class: 'share' }, mark(j), el('i', { style: `width:${Math.max(1, 100 * w)}%` }), el('b', {}, percent(w))))
  }
  const percent = w => w > .995 && w < 1 ? '> 99%' : `${Math.round(100 * w)}%`
  const clusterOf = n => { const r = request(n); return D.clusters && r && r[0] === 'summarize' && D.clusters[r[1]] ? r[1] : null }

  // One record, what it was made from, and what came of it
  const dialog = $('#record'), trail = []
  function open(n) {
    if (trail.at(-1) !== n) trail.push(n)
    const k = kind(n), r = request(n), title = $('#record-title')
    title.textContent = `${NAMES[k]} ${D.id[n] || ''}`
    $('#back').disabled = trail.length < 2
    const body = $('#record-body')
    const parts = isTask(k) ? [block('Instruction', D.a[n]), block('Input', D.b[n]), block(k === 'dropped' && !D.a[n] ? 'Piece of the reply' : 'Output', D.c[n])] : [block('Principle', D.a[n])]
    if (k === 'dropped') parts.unshift(el('p', {}, el('span', { class: 'tag' }, D.reasons[D.reason[n - first.dropped]]), el('bdi', {}, D.detail[n - first.dropped] || '')))
    if (k === 'dropped' && nearText(n)) parts.push(block(`Nearest that was kept before, ROUGE-L ${similar(n)}`, nearText(n)), D.near[n] >= 0 ? el('ul', { class: 'links' }, link(D.near[n])) : null)
    if (k === 'instance' && D.sim[n] >= 0) parts.push(el('p', { class: 'muted' }, `Nearest instruction that was there before: ROUGE-L ${similar(n)}`), D.near[n] >= 0 ? el('ul', { class: 'links' }, link(D.near[n])) : null)
    const judged = isTask(k) && D.scores[D.id[n]]
    if (judged) parts.push(block(judged[0] ? `The judge's score: ${judged[0]} of 5` : 'No score could be read in what the judge said', judged[1]))
    body.replaceChildren(...parts.filter(x => x), ...sources(n, k, r), ...(k === 'dropped' ? [] : offspring(n)))
    if (!dialog.open) dialog.showModal()
    dialog.scrollTop = 0; title.focus()
  }
  const close = () => dialog.close()
  dialog.addEventListener('close', () => { trail.length = 0 })
  $('#close').addEventListener('click', close)
  $('#back').addEventListener('click', () => { trail.pop(); const n = trail.pop(); if (n !== undefined) open(n) })
  const isTask = k => !['low', 'high'].includes(k)
  function sources(n, k, r) {
    const out = [el('h3', {}, 'What it was made from')]
    if (!r) return [...out, el('p', {}, k === 'seed' ? 'Nothing: it is a seed.' : isTask(k) ? 'It was there before this run; what is behind it is not in this folder.' : 'It was given, not learnt; there is nothing behind it.')]
    out.push(el('p', {}, `${where(r)}${D.k[n] >= 0 ? `, item ${D.k[n]} of the reply` : ''}. The request showed the model:`))
    const j = k === 'high' ? clusterOf(n) : null
    if (k === 'low' && D.clusters) out.push(el('div', { class: 'label' }, 'It belongs to'), ...shares(n - first.low))
    if (j !== null) out.push(el('div', { class: 'label' }, `cluster ${j}, with these weights`), el('ul', { class: 'links' }, ...D.clusters[j].map(([i, w]) => { const li = link(first.low + i); li.prepend(el('b', {}, percent(w) + ' ')); return li })))
    else for (const [g, ns] of Object.entries(byKind(parents(n).filter(p => typeof p === 'number')))) out.push(el('div', { class: 'label' }, k === 'low' ? `the instances of subset ${r[1]}` : `${ns.length} ${MANY[g]}`), links(ns))
    const lost = parents(n).filter(p => typeof p !== 'number')
    if (lost.length) out.push(el('div', { class: 'label' }, 'records that are not in this folder'), el('p', { class: 'muted' }, lost.join(', ')))
    if (r[3].length) out.push(el('div', { class: 'label' }, 'pieces of private knowledge (their own text is not repeated here; what was made from them may be)'), el('ul', {}, ...r[3].map(p => el('li', {}, `${p}${D.places[p] ? ': ' + D.places[p] : ''}`))))
    const all = byKind(up(n)), line = ['high', 'low', 'initial', 'seed'].filter(g => all[g]).map(g => count(all[g].length, MANY[g].slice(0, -1), MANY[g]))
    out.push(el('p', { class: 'muted' }, `The whole way up: ${line.join(' ← ') || 'nothing that is in this folder'}.`))
    const far = Object.entries(all).filter(([g, ns]) => ns.some(m => !parents(n).includes(m)))
    for (const [g, ns] of far) out.push(el('details', {}, el('summary', {}, `${count(ns.length, MANY[g].slice(0, -1), MANY[g])} behind it`), links(ns)))
    return out
  }
  function offspring(n) {
    const all = byKind(down(n)), out = [el('h3', {}, 'What came of it')]
    for (const g of ['initial', 'low', 'high', 'instance']) if (all[g]) out.push(el('details', g === 'instance' ? {} : {}, el('summary', {}, count(all[g].length, MANY[g].slice(0, -1), MANY[g])), links(all[g])))
    const now = near(n), shown = (all.instance || []).filter(m => now.has(D.q[m])).length
    if (shown) out.push(el('p', {}, el('button', { type: 'button', onclick: () => { close(); from(n) } }, shown < all.instance.length ? `Show the ${shown.toLocaleString('en')} whose request showed it in the data` : `Show ${shown === 1 ? 'it' : 'all ' + shown.toLocaleString('en')} in the data`)))
    if (out.length === 1) out.push(el('p', {}, 'Nothing: no request was shown it.'))
    return out
  }

  // A list of records: filter, sort, page
  function lister(name, all, test, row, order, noun) {
    const form = $(`#${name}-form`), list = $(`#${name}-list`), pages = $(`#${name}-pages`), said = $(`#${name}-count`), PER = 50
    let found = all, page = 0
    const go = (label, to, off) => el('button', { type: 'button', ...(off ? { disabled: '' } : {}), onclick: () => { page = to; show(); said.focus({ preventScroll: true }); said.scrollIntoView({ block: 'nearest' }) } }, label)
    function show() {
      const last = Math.max(0, Math.ceil(found.length / PER) - 1), begin = page * PER
      list.replaceChildren(...found.slice(begin, begin + PER).map(row))
      list.setAttribute('start', begin + 1)
      said.textContent = (found.length === all.length ? `${count(all.length, noun)}` : `${found.length.toLocaleString('en')} of ${count(all.length, noun)}`) + (found.length > PER ? `, ${(begin + 1).toLocaleString('en')} to ${Math.min(begin + PER, found.length).toLocaleString('en')} shown` : '')
      pages.replaceChildren(...(last ? [go('First', 0, !page), go('Previous', page - 1, !page), el('span', {}, `page ${page + 1} of ${last + 1}`), go('Next', page + 1, page === last), go('Last', last, page === last)] : []))
    }
    function filter() {
      const f = Object.fromEntries(new FormData(form))
      f.words = f.q.toLowerCase().split(/\s+/).filter(w => w)
      found = all.filter(test(f))
      const by = order(f)
      if (by) found.sort((a, b) => by(a) - by(b) || a - b)
      page = 0; show()
    }
    form.addEventListener('input', filter)
    form.addEventListener('submit', e => e.preventDefault())
    form.addEventListener('reset', () => setTimeout(filter))
    $(`#${name}-tool`).hidden = false
    show()
    return filter
  }
  const hay = []
  const has = (n, words) => { const s = hay[n] ??= `${D.a[n]}\n${D.b[n]}\n${D.c[n]}\n${D.id[n] || ''}`.toLowerCase(); return words.every(w => s.includes(w)) }

  // The data
  const form = $('#data-form')
  let own = null   // requests of the record in `form.from`
  function test(f) {
    own = f.from === '' ? null : near(Number(f.from))
    const span = (a, b) => [a === '' ? -Infinity : Number(a), b === '' ? Infinity : Number(b)]
    const [w0, w1] = span(f.wmin, f.wmax), [s0, s1] = span(f.smin, f.smax), any = f.smin === '' && f.smax === ''
    return n => D.w[n] >= w0 && D.w[n] <= w1 && (any || D.sim[n] >= 0 && (D.near[n] === -2 ? s0 <= 0 && s1 >= D.sim[n] : D.sim[n] >= s0 && D.sim[n] <= s1)) && (!own || own.has(D.q[n])) && has(n, f.words)
  }
  const value = n => D.near[n] === -2 || D.sim[n] < 0 ? 0 : D.sim[n]
  const order = f => ({ long: n => -D.w[n], short: n => D.w[n], near: n => -value(n), far: n => value(n) })[f.sort]
  const row = n => el('li', {}, el('button', { type: 'button', class: 'open', 'data-n': n, onclick: () => open(n) },
    el('span', { class: 'a', dir: 'auto' }, clip(D.a[n], 300)), el('span', { class: 'c', dir: 'auto' }, clip(D.c[n], 240)),
    el('span', { class: 'm' }, `${count(D.w[n], 'word')}${D.sim[n] >= 0 ? ` · similarity to the nearest before: ${similar(n)}` : ''}${request(n) ? ` · request ${request(n)[1]}` : ''}`)))
  const choice = form.elements.from
  for (const n of range('high')) choice.append(el('option', { value: n }, `${clusterOf(n) === null ? 'principle' : 'cluster ' + clusterOf(n)}: ${clip(D.a[n], 70)}`))
  const filterData = size('instance') ? lister('data', range('instance'), test, row, order, 'instance') : null
  function from(n) {   // show what came of a record
    if (![...choice.options].some(o => o.value === String(n))) choice.append(el('option', { value: n }, `${NAMES[kind(n)].toLowerCase()}: ${clip(D.a[n], 60)}`))
    form.reset(); choice.value = n; setTimeout(() => { choice.value = n; filterData(); $('#data-t').scrollIntoView(); $('#data-count').focus({ preventScroll: true }) })
  }

  // What was dropped
  function nearText(n) { return D.near[n] >= 0 ? D.a[D.near[n]] : (D.nearest[n - first.dropped] || '') }
  if (size('dropped')) {
    const drops = range('dropped'), f = $('#drop-form').elements, tally = (xs, names, select) => { const c = new Map(); for (const x of xs) c.set(x, (c.get(x) || 0) + 1); for (const [x, v] of [...c].sort((a, b) => b[1] - a[1])) select.append(el('option', { value: x }, `${names(x)} (${v.toLocaleString('en')})`)) }
    tally(D.reason, x => D.reasons[x], f.reason)
    tally(drops.map(n => request(n)?.[0] || ''), x => x || 'not known', f.stage)
    const side = n => nearText(n) ? el('span', { class: 'pair' }, el('span', {}, el('span', { class: 'm' }, 'candidate'), el('span', { class: 'a', dir: 'auto' }, clip(D.a[n] || D.c[n], 300))), el('span', {}, el('span', { class: 'm' }, `nearest kept before, ROUGE-L ${similar(n)}`), el('span', { class: 'a', dir: 'auto' }, clip(nearText(n), 300)))) :
      el('span', { class: 'a', dir: 'auto' }, clip(D.a[n] || D.c[n], 300) || '(no text)')
    lister('drop', drops, g => n => (g.reason === '' || D.reason[n - first.dropped] === Number(g.reason)) && (g.stage === '' || (request(n)?.[0] || '') === g.stage) && has(n, g.words),
      n => el('li', {}, el('button', { type: 'button', class: 'open', 'data-n': n, onclick: () => open(n) }, el('span', { class: 'm' }, el('span', { class: 'tag' }, D.reasons[D.reason[n - first.dropped]]), el('bdi', {}, D.detail[n - first.dropped] || ''), request(n) ? ` · ${where(request(n))}` : ''), side(n))), () => null, 'dropped candidate')
  }

  // The principle map
  const panel = $('#panel'), points = [...document.querySelectorAll('#map .pt')]
  const lowPanel = i => panel.replaceChildren(el('h3', {}, `Low-level principle ${D.id[first.low + i]}`), block('Principle', D.a[first.low + i]), el('div', { class: 'label' }, 'It belongs to'), ...shares(i),
    ...(request(first.low + i) ? [el('details', {}, el('summary', {}, `Read in subset ${request(first.low + i)[1]}: ${count(parents(first.low + i).length, 'instance')}`), links(parents(first.low + i)))] : []),
    el('p', {}, el('button', { type: 'button', onclick: () => open(first.low + i) }, 'Sources, and what came of it')))
  function highPanel(n, j) {
    const came = n === null ? [] : down(n).filter(m => kind(m) === 'instance')
    panel.replaceChildren(el('h3', {}, j === null ? NAMES.high : `Cluster ${j}`), n === null ? el('p', {}, 'No high-level principle came of this cluster.') : block(NAMES.high, D.a[n]),
      ...(came.length ? [el('p', {}, `${count(came.length, 'instance')} of the data ${came.length === 1 ? 'was' : 'were'} written with it in the prompt${came.length === size('instance') && size('high') > 1 ? '. So were all others: each request shows all principles' : ''}.`), el('p', {}, el('button', { type: 'button', onclick: () => from(n) }, 'Show them in the data'), ' ', el('button', { type: 'button', onclick: () => open(n) }, 'Open the record'))] : []),
      ...(j === null ? [] : [el('div', { class: 'label' }, `${count(D.clusters[j].length, 'low-level principle')}, with their weights. Open one for the instances that it was read from, and their seeds`), ...D.clusters[j].map(([i, w]) => behind(i, w))]))
    panel.scrollTop = 0
  }
  function behind(i, w) {   // a low-level principle, its subset and the seeds, made when it is opened
    const n = first.low + i, box = el('details', { ontoggle: () => {
      if (box.children.length > 1) return
      const all = byKind(up(n)), near = parents(n)
      box.append(el('div', { class: 'label' }, request(n) ? `subset ${request(n)[1]}: ${count(near.length, 'initial instance')}` : 'no request is known'), links(near), ...(all.seed ? [el('div', { class: 'label' }, `${count(all.seed.length, 'seed')} behind them`), links(all.seed, 10)] : []))
    } }, el('summary', { dir: 'auto' }, el('b', {}, percent(w)), ' ' + D.a[n]))
    return box
  }
  const buttons = [], tell = () => { $('#panel-said').textContent = `The details show: ${$('h3', panel).textContent}` }   // short; the details themselves can be long
  let pinned = () => {}
  function choose(button, n, j, asked = true) {
    for (const b of buttons) b.setAttribute('aria-pressed', b === button)
    const own = j === null ? null : new Set(D.clusters[j].map(m => m[0]))
    for (const p of points) { p.classList.toggle('dim', own !== null && !own.has(Number(p.dataset.i))); p.classList.remove('chosen'); p.setAttribute('aria-pressed', 'false') }
    pinned = () => highPanel(n, j); pinned()
    if (asked) tell()
    if (asked && matchMedia('(max-width: 48rem)').matches) panel.scrollIntoView({ block: 'start' })   // it stands below then
  }
  const groups = D.clusters ? D.clusters.map((_, j) => [range('high').find(n => clusterOf(n) === j) ?? null, j]) : range('high').map(n => [n, null])
  if (groups.length) {
    for (const [n, j] of groups) {
      const b = el('button', { type: 'button', 'aria-pressed': 'false', 'aria-controls': 'panel', onclick: () => choose(b, n, j) }, j === null ? el('span', { class: 'muted' }, '•') : mark(j), el('span', { class: 'clip', dir: 'auto' }, n === null ? 'no principle came of this cluster' : clip(D.a[n], 400)))
      buttons.push(b); $('#clusters').append(b)
    }
    $('#map').addEventListener('mouseleave', () => pinned())   // what was only hovered over gives way to what was chosen
    const pin = p => { pinned = () => lowPanel(Number(p.dataset.i)); for (const b of buttons) b.setAttribute('aria-pressed', 'false'); for (const q of points) { q.classList.remove('dim'); q.classList.toggle('chosen', q === p); q.setAttribute('aria-pressed', q === p) } pinned(); tell() }
    points.forEach((p, at) => {
      p.prepend(el('circle', { class: 'halo', r: 18 }))
      const name = p.querySelector('title').textContent
      for (const [k, v] of Object.entries({ role: 'button', tabindex: at ? -1 : 0, 'aria-label': name, 'aria-pressed': 'false', 'aria-controls': 'panel' })) p.setAttribute(k, v)
      p.addEventListener('mouseenter', () => lowPanel(Number(p.dataset.i)))
      p.addEventListener('focus', () => { for (const q of points) q.setAttribute('tabindex', q === p ? 0 : -1); lowPanel(Number(p.dataset.i)) })
      p.addEventListener('click', () => pin(p))
      p.addEventListener('keydown', e => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key]
        if (step) { e.preventDefault(); points[(at + step + points.length) % points.length].focus() }
        if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); pin(p); panel.focus() }
      })
    })
    $('#map svg')?.setAttribute('role', 'group')
    $('#map-tool').hidden = false; $('#principles-static').hidden = true
    choose(buttons[0], ...groups[0], false)
  }

  const asked = D.id.indexOf(location.hash.slice(1))
  if (location.hash.length > 1 && asked >= 0) open(asked)
  setTimeout(() => { for (let n = first.instance; n < N; n++) has(n, []); document.documentElement.dataset.ready = '' })   // so that the first search is as fast as the next
}

unpack().then(report).catch(e => { const p = $('#trouble'); p.hidden = false; p.textContent = `The data of this page cannot be shown: ${e.message}` })

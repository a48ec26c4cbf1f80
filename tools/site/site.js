// What the pages do by themselves: the theme, the menu of a phone, the search, formulas, copying of code. Nothing is fetched from elsewhere.
(() => {
  const root = document.documentElement, up = document.currentScript.dataset.up, own = document.currentScript.src
  const remembered = { get: () => { try { return localStorage.getItem('psi-theme') } catch { return null } }, set: v => { try { localStorage.setItem('psi-theme', v) } catch {} } }
  const system = matchMedia('(prefers-color-scheme: dark)')
  const dark = () => (root.dataset.theme || (system.matches ? 'dark' : 'light')) === 'dark'
  if (['light', 'dark'].includes(remembered.get())) root.dataset.theme = remembered.get()   // before the first paint

  function theme() {
    const button = document.querySelector('.theme')
    const say = () => button.setAttribute('aria-pressed', dark())
    button.onclick = () => { root.dataset.theme = dark() ? 'light' : 'dark'; remembered.set(root.dataset.theme); say() }
    system.addEventListener('change', say)
    say()
  }

  function menu() {
    const button = document.querySelector('.menu'), nav = document.querySelector('.sections')
    const set = open => { document.body.classList.toggle('menu-open', open); button.setAttribute('aria-expanded', open); if (open) nav.querySelector('[aria-current], a').focus() }
    button.onclick = () => set(!document.body.classList.contains('menu-open'))
    addEventListener('keydown', e => { if (e.key === 'Escape' && document.body.classList.contains('menu-open')) { set(false); button.focus() } })
    const here = nav.querySelector('[aria-current]')
    if (here && nav.scrollHeight > nav.clientHeight) nav.scrollTop = here.offsetTop - nav.clientHeight / 2
  }

  // Search. Exported names come first: exact, then by beginning, then anywhere; then pages; then headings and text.
  let index
  const loaded = () => index ||= new Promise(done => {
    const script = document.createElement('script')
    script.src = own.replace(/site\.js.*$/, 'index.js')
    script.onload = () => done(window.searchIndex.map(([kind, name, where, url, text]) => ({ kind, name, where, url, text, low: name.toLowerCase(), all: (name + ' ' + where + ' ' + text).toLowerCase() })))
    document.head.append(script)
  })
  const flat = s => s.replace(/[_.\s]+/g, '')
  function score(entry, words, whole) {
    if (entry.kind === 'symbol') {
      const last = entry.low.split('.').pop()
      if (entry.low === whole || last === whole) return 1000 - entry.low.length
      if (flat(entry.low) === flat(whole)) return 900
      if (entry.low.startsWith(whole) || last.startsWith(whole)) return 700 - entry.low.length
      if (entry.low.includes(whole)) return 600 - entry.low.length
    }
    if (!words.every(w => entry.all.includes(w))) return 0
    const inName = words.filter(w => entry.low.includes(w)).length / words.length
    return ({ symbol: 30, page: 120, text: 40 })[entry.kind] + 200 * inName + (entry.all.includes(whole) ? 40 : 0) - Math.min(entry.low.length, 60) / 10
  }
  const matches = (entries, query) => {
    const whole = query.trim().toLowerCase().replace(/\(\)$/, ''), words = whole.split(/\s+/).filter(Boolean)
    if (!words.length) return []
    return entries.map(e => [score(e, words, whole), e]).filter(p => p[0] > 0).sort((a, b) => b[0] - a[0]).slice(0, 14).map(p => p[1])
  }
  function marked(text, words) {     // text nodes and <mark>s: what is searched is never read as HTML
    const out = document.createDocumentFragment(), safe = words.map(w => w.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).filter(Boolean)
    if (!safe.length) { out.append(text); return out }
    for (const part of text.split(new RegExp('(' + safe.join('|') + ')', 'ig'))) {
      if (words.includes(part.toLowerCase())) { const m = document.createElement('mark'); m.textContent = part; out.append(m) } else out.append(part)
    }
    return out
  }
  function excerpt(text, words) {
    const at = Math.max(0, ...words.map(w => text.toLowerCase().indexOf(w)))
    const from = Math.max(0, at - 50)
    return (from ? '… ' : '') + text.slice(from, from + 150) + (text.length > from + 150 ? ' …' : '')
  }
  function search() {
    const input = document.querySelector('.search input'), list = document.querySelector('#found'), status = document.querySelector('.search [role=status]')
    let chosen = -1
    const choose = i => {
      const items = [...list.querySelectorAll('[role=option]')]
      chosen = items.length ? (i + items.length) % items.length : -1
      items.forEach((li, k) => li.setAttribute('aria-selected', k === chosen))
      if (chosen >= 0) { input.setAttribute('aria-activedescendant', items[chosen].id); items[chosen].scrollIntoView({ block: 'nearest' }) } else input.removeAttribute('aria-activedescendant')
    }
    const shut = () => { list.hidden = true; input.setAttribute('aria-expanded', false); input.removeAttribute('aria-activedescendant'); chosen = -1 }
    const go = li => { shut(); input.blur(); location.href = up + li.dataset.url }
    const show = async () => {
      const query = input.value, words = query.trim().toLowerCase().split(/\s+/).filter(Boolean)
      if (!words.length) { status.textContent = ''; return shut() }
      const found = matches(await loaded(), query)
      if (query !== input.value) return
      list.replaceChildren(...found.map((e, i) => {
        const li = document.createElement('li'), name = document.createElement('b'), where = document.createElement('small'), text = document.createElement('p')
        li.id = 'found-' + i; li.dataset.url = e.url; li.className = e.kind; li.setAttribute('role', 'option')
        name.append(marked(e.name, words)); where.textContent = e.where; text.append(marked(excerpt(e.text, words), words))
        li.append(name, where, ...(e.text ? [text] : []))
        li.onmousedown = event => { event.preventDefault(); go(li) }
        return li
      }))
      if (!found.length) { const li = document.createElement('li'); li.textContent = 'Nothing was found. Another word, or fewer?'; li.setAttribute('role', 'presentation'); list.append(li) }
      list.hidden = false; input.setAttribute('aria-expanded', true)
      status.textContent = found.length + ' found'
      choose(0)
    }
    input.onfocus = () => { loaded(); if (input.value) show() }
    input.oninput = show
    input.onblur = () => setTimeout(shut, 100)
    input.onkeydown = e => {
      if (e.key === 'ArrowDown') { e.preventDefault(); list.hidden ? show() : choose(chosen + 1) }
      else if (e.key === 'ArrowUp') { e.preventDefault(); choose(chosen - 1) }
      else if (e.key === 'Enter') { const li = list.querySelector('[aria-selected=true]'); if (!list.hidden && li) { e.preventDefault(); go(li) } }
      else if (e.key === 'Escape') { e.preventDefault(); if (list.hidden) { input.value = ''; input.blur() } else shut() }
    }
    addEventListener('keydown', e => { if (e.key === '/' && !e.ctrlKey && !e.metaKey && !e.target.closest('input, textarea, select')) { e.preventDefault(); input.focus(); input.select() } })
  }

  function formulas() {
    if (!window.katex) return
    for (const el of document.querySelectorAll('.math')) {
      const display = el.textContent.trim().startsWith('\\['), tex = el.textContent.trim().replace(/^\\[([]|\\[)\]]$/g, '')
      katex.render(tex, el, { displayMode: display, throwOnError: false, strict: 'ignore' })
    }
  }

  function tables() {     // those that came without a box of their own get one, to scroll in
    for (const table of document.querySelectorAll('article table')) {
      if (table.closest('.sd-table, .table') && table.parentElement.matches('.sd-table, .table')) { if (table.offsetWidth > table.parentElement.clientWidth) reach(table.parentElement); continue }
      const box = document.createElement('div')
      box.className = 'table'; table.replaceWith(box); box.append(table)
      if (table.offsetWidth > box.clientWidth) reach(box)
    }
  }
  const reach = box => { box.tabIndex = 0; box.setAttribute('role', 'region'); box.setAttribute('aria-label', 'Table') }

  function copying() {
    for (const box of document.querySelectorAll('.code, div.sourceCode')) {
      const button = document.createElement('button'), pre = box.querySelector('pre')
      pre.tabIndex = 0
      button.className = 'copy'; button.textContent = 'Copy'
      button.onclick = async () => { try { await navigator.clipboard.writeText(pre.textContent); button.textContent = 'Copied' } catch { button.textContent = 'Select and copy' } setTimeout(() => button.textContent = 'Copy', 1500) }
      box.append(button)
    }
  }

  function anchors() {
    for (const h of document.querySelectorAll('article h2, article h3, article h4')) {
      const id = h.id || h.closest('section')?.id
      if (!id) continue
      const a = document.createElement('a')
      a.className = 'anchor'; a.href = '#' + id; a.textContent = '#'; a.setAttribute('aria-label', 'Link to this section')
      h.append(a)
    }
    const open = () => {      // the target may stand in, or just before, what is folded
      let el = null
      try { el = document.getElementById(decodeURIComponent(location.hash.slice(1))) } catch {}
      if (!el) return
      for (let d = el.closest('details'); d; d = d.parentElement.closest('details')) d.open = true
      if (el.matches('.cell > span')) for (let n = el; n; n = n.nextElementSibling) if (n.matches('details')) { n.open = true; break }
      el.scrollIntoView()
    }
    addEventListener('hashchange', open)
    if (location.hash) open()
  }

  function here() {
    const links = [...document.querySelectorAll('.toc a')]
    if (!links.length || !window.IntersectionObserver) return
    const heads = new Map(links.map(a => [document.getElementById(decodeURIComponent(a.hash.slice(1))), a]).filter(p => p[0]))
    const seen = new Set()
    const watch = new IntersectionObserver(changes => {
      for (const c of changes) c.isIntersecting ? seen.add(c.target) : seen.delete(c.target)
      const last = [...heads.keys()].filter(h => seen.has(h)).pop()
      if (last) links.forEach(a => a === heads.get(last) ? a.setAttribute('aria-current', 'true') : a.removeAttribute('aria-current'))
    }, { rootMargin: '-60px 0px -75% 0px' })
    for (const h of heads.keys()) watch.observe(h)
  }

  addEventListener('DOMContentLoaded', () => { theme(); menu(); search(); formulas(); tables(); copying(); anchors(); here() })
})()

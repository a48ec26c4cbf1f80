"""HTML that a notebook's output brought along, made harmless: known tags stay, everything else is shown as the text that it is.

A notebook shows what models wrote, so an output may hold anything. Tags that run or load something are no tags here; a tag with
an attribute that does is none either; what was left open is closed, so that it cannot swallow the rest of the page. The page's own
policy (a meta tag) is the second lock: even what came through could run nothing and ask for nothing.
"""
import html, re
from html.parser import HTMLParser

TAGS = set('''a abbr b bdi blockquote br caption cite code col colgroup dd del details dfn div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins
    kbd li mark ol p pre q rp rt ruby s samp section small span strong style sub summary sup table tbody td tfoot th thead time tr u ul var wbr
    svg g path rect circle ellipse line polyline polygon text tspan title desc defs marker lineargradient radialgradient stop clippath pattern mask
    use symbol'''.split())
VOID = set('br col hr img wbr'.split())

def visible(text:str) -> str:
    "Control characters as their pictures: a page cannot hold a NUL, and a reader could not see it"
    return re.sub(r'[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]', lambda m: chr(0x2400 + ord(m[0])) if m[0] != '\x7f' else '\u2421', text)

def safe_url(url:str) -> bool:
    "Places on this page or this site, pages outside that a reader may choose to open, and pictures that are part of the page"
    url = re.sub(r'[\x00-\x20]', '', url).lower()
    scheme = re.match(r'([a-z][a-z0-9+.-]*):', url)
    return not url.startswith('//') and (not scheme or scheme[1] in ('http', 'https', 'mailto') or bool(re.match(r'data:image/(png|jpeg|gif|webp);', url)))

class Harmless(HTMLParser):
    def __init__(self, styles:bool): super().__init__(convert_charrefs=False); self.out, self.open, self.styles = [], [], styles

    def harmful(self, tag, name, value):
        "Would this attribute run or load something, or cover the page?"
        value = value or ''
        if not re.fullmatch(r'[a-z_][\w:.-]*', name) or name.startswith('on') or name in ('srcset', 'srcdoc', 'formaction', 'ping'): return True
        if name in ('href', 'xlink:href', 'src'): return not safe_url(value) or (tag != 'a' and not re.match(r'#|data:image/', value.strip()))
        if name in ('alt', 'title') or name.startswith('aria-'): return False
        return bool(re.search(r'url\s*\((?!\s*[\'"]?#)|@import|expression|javascript:|position\s*:\s*(fixed|absolute|sticky)', value, re.I))

    def handle_starttag(self, tag, attrs):
        if tag not in TAGS or tag == 'style' and not self.styles or any(self.harmful(tag, *a) for a in attrs):
            return self.out.append(html.escape(visible(self.get_starttag_text())))
        self.out.append(f"<{tag}" + ''.join(f' {k}="{html.escape(v or "")}"' for k, v in attrs) + '>')
        if tag not in VOID: self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag in TAGS - VOID and self.open and self.open[-1] == tag: self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open:
                self.out.append(f'</{(last := self.open.pop())}>')
                if last == tag: break
        else: self.out.append(f'&lt;/{html.escape(tag)}&gt;')

    def handle_data(self, data):
        if self.open and self.open[-1] == 'style': self.out.append(re.sub(r'@import[^;]*;?|url\([^)]*\)|</|<!', '', data))
        else: self.out.append(html.escape(visible(data), quote=False))

    def handle_entityref(self, name): self.out.append(f'&{name};')
    def handle_charref(self, name): self.out.append(f'&#{name};')
    def handle_decl(self, decl): self.out.append(html.escape(f'<!{decl}>'))
    def handle_pi(self, data): self.out.append(html.escape(f'<?{data}>'))
    def unknown_decl(self, data): self.out.append(html.escape(f'<![{data}]>'))

def harmless(
    markup:str,         # HTML of an output
    styles:bool=False,  # may it bring a `<style>`? (a `text/html` output may, Markdown may not)
) -> str:               # HTML that shows the same and does nothing
    parser = Harmless(styles)
    parser.feed(markup); parser.close()
    return ''.join(parser.out) + ''.join(f'</{tag}>' for tag in reversed(parser.open))

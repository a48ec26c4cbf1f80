"""What the site says of an exported function or class: its signature, a line of prose, and a table of its parameters.

nbdev's own renderer sets all of it in one code block, where comments run off the side; a table has a column for each thing one looks for.
"""
import inspect, re
from fastcore.docments import docments
from nbdev.doclinks import NbdevLookup
from nbdev.showdoc import BasicMarkdownRenderer, show_doc

def escaped(
    text:str, # Markdown of one line
) -> str:     # the same as a table's cell: no `|` ends it, and `<...>` outside of code is no tag
    parts = re.split(r'(`+[^`]*`+)', ' '.join(str(text).split()).replace('|', '\\|'))
    return ''.join(p if i % 2 else re.sub(r'[<$]', r'\\\g<0>', p) for i, p in enumerate(parts))

def code(text) -> str: return f'`{escaped(text)}`' if text and '`' not in text else escaped(text)

def type_name(
    anno, # an annotation: a class, a string, a generic alias, nothing
) -> str: # as one would write it: `list[Instance]`, not `list[psi.core.Instance]`
    if anno is inspect.Parameter.empty or anno is None: return ''
    name = anno if isinstance(anno, str) else anno.__name__ if isinstance(anno, type) and not hasattr(anno, '__args__') else str(anno)
    return re.sub(r'\b(?:[a-z_][\w]*\.)+(?=[A-Za-z_])', '', name)

def default_name(value) -> str:
    if value is inspect.Parameter.empty: return ''
    if inspect.isroutine(value) or isinstance(value, type): return value.__name__
    text = repr(value)
    return '…' if ' at 0x' in text or '<factory>' in text else text if len(text) < 60 else text[:56] + ' ...'

class ApiTable(BasicMarkdownRenderer):
    "A heading with an anchor, a link to the source, the signature, the docstring, a table"
    def signature(self) -> str:
        try: found = inspect.signature(self.sym)
        except (ValueError, TypeError): return ''
        names = [('*' if p.kind is p.VAR_POSITIONAL else '**' if p.kind is p.VAR_KEYWORD else '') + n for n, p in found.parameters.items()]
        line = f"{self.nm}({', '.join(names)})"
        return line if len(line) <= 100 else f'{self.nm}(\n    ' + ',\n    '.join(names) + ')'

    def source(self) -> str:
        "Where it is kept, with its line; nbdev knows the file, Python the line"
        found = NbdevLookup()[self.fn]
        found = found[2] if isinstance(found, tuple) else ''
        try: return f'{found}#L{inspect.findsource(inspect.unwrap(self.sym))[1] + 1}' if found else ''
        except (OSError, TypeError): return found

    def rows(self):
        if made := fields(self.sym): return made
        try: found = docments(self.sym, full=True, returns=True)
        except Exception: return []     # a few callables have no source to read comments from
        rows = [(n, type_name(d.get('anno')), default_name(d.get('default', inspect.Parameter.empty)), d.get('docment') or '')
                for n, d in found.items() if n not in ('self', 'cls')]
        return [r for r in rows if r[0] != 'return' or (r[1] not in ('', 'NoneType', 'None') or r[3])]

    def _repr_markdown_(self) -> str:
        src, text, rows = self.source(), inspect.getdoc(self.sym), self.rows()
        if inspect.isclass(self.sym) and '__doc__' not in vars(self.sym): text = ''      # object's or a base's: says nothing of this one
        if text and re.match(rf'{re.escape(self.sym.__name__)}\(' if hasattr(self.sym, '__name__') else r'\Z', text): text = ''   # a dataclass's own signature
        name = self.nm.replace('_', '\\_')      # in backticks nbdev would link it, to itself
        head = f"{'#' * self.title_level} {name} {{#{self.nm} .api}}"
        link = f'[source of {self.nm}]({src}){{.source-link}}' if src else ''
        sig = f'```python\n{self.signature()}\n```' if self.signature() else ''
        lines = [f"| {'*returns*' if n == 'return' else code(n)} | {code(t)} | {code(d)} | {escaped(c)} |" for n, t, d, c in rows]
        table = '\n'.join(['| name | type | default | details |', '|:--|:--|:--|:--|', *lines]) if lines else ''
        return '\n\n'.join(filter(None, [head, link, sig, paragraphs(text or ''), table])) + '\n'

def fields(sym):
    "Rows of a pydantic model: its fields, with their descriptions or the comments beside them"
    found = getattr(sym, 'model_fields', None)
    if not inspect.isclass(sym) or not isinstance(found, dict): return []
    def default(f): return '' if f.is_required() else f'{f.default_factory.__name__}()' if f.default_factory else default_name(f.default)
    return [(n, type_name(f.annotation), default(f), f.description or '') for n, f in found.items()]

def paragraphs(text:str) -> str: return '\n\n'.join(re.sub(r'[<]', r'\\<', ' '.join(p.split())) for p in re.split(r'\n\s*\n', text))

def show_table(sym, renderer=None, name=None, title_level=3): return show_doc(sym, renderer=renderer or ApiTable, name=name, title_level=title_level)

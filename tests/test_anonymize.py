"What is personal and what only looks like it; the same value, the same number; nothing of it in a file that others can read, or in an error"
import gzip, json, os, re, stat, sys, threading
import pytest
from hypothesis import given, settings, strategies as st
from psi.anonymize import KINDS, Anonymizer, Found, find
from psi.core import ConfigError, DataError

SOME = settings(deadline=None, max_examples=200)
R = 'a1B2c3D4e5F6g7H8i9J0'   # stands for chance; real keys would trip scanners
ID = lambda x: repr(x)[:40]

# the text with what should be found between ⟦ and ⟧
PERSONAL = {
    'EMAIL': ['⟦jane@example.com⟧', 'mail ⟦jane.doe+x@mail.example.co.uk⟧.', '<⟦jane@example.com⟧>', 'mailto:⟦jane@example.com⟧', '"⟦o\'brien@example.com⟧"', '请联系⟦jane@example.com⟧谢谢', 'Адрес: ⟦почта@пример.рф⟧', '⟦jürgen@müller.example⟧',
              '⟦a_b-c%d@x-y.org⟧,⟦z@example.io⟧;', '⟦jane (at) example (dot) com⟧', '⟦jane[at]example[dot]org⟧', '⟦JANE@EXAMPLE.COM⟧', '(⟦jane@example.com⟧)', '⟦jane@xn--bcher-kva.example⟧', 'email=⟦jane@example.com⟧&x=1'],
    'URL': ['see ⟦https://example.com/a?b=c#d⟧.', '(⟦http://example.com/a_(b)⟧)', '⟦ftp://files.example.com⟧, then', '[x](⟦https://example.com⟧)', '⟦www.example.com⟧!', 'on ⟦linkedin.com/in/jane-doe⟧', '⟦github.com/janedoe⟧', '"⟦https://u:p@example.com:8080/x⟧"', '访问⟦https://example.com/⟧路',
            '⟦postgres://jane:pw@db.example.com/x⟧', '⟦HTTPS://EXAMPLE.COM⟧', '⟦https://example.com/?mail=jane@example.com⟧', '<a href="⟦https://example.com⟧">'],
    'IBAN': ['⟦DE89370400440532013000⟧', '⟦DE89 3704 0044 0532 0130 00⟧', '⟦GB82 WEST 1234 5698 7654 32⟧.', 'IBAN: ⟦FR14 2004 1010 0505 0001 3M02 606⟧', '⟦de89 3704 0044 0532 0130 00⟧', '⟦NL91ABNA0417164300⟧ AND THEN', '⟦CH93 0076 2011 6238 5295 7⟧', '⟦DE89-3704-0044-0532-0130-00⟧',
             'IBAN DE: ⟦DE12 3456 7890 1234 5678 90⟧', '⟦MT84 MALT 0110 0001 2345 MTLC AST0 01S⟧', '⟦GB82 WEST 1234 5698 7654 32⟧ THIS IS'],
    'CARD': ['⟦4111 1111 1111 1111⟧', '⟦4111111111111111⟧', '⟦4111-1111-1111-1111⟧', 'amex ⟦3782 822463 10005⟧', '⟦378282246310005⟧', '⟦5555 5555 5555 4444⟧, exp 12/30', '⟦6011111111111117⟧', 'credit card number: ⟦4298 1132 3456 4582⟧', 'Kartennummer ⟦4000123412341234⟧', '⟦3530111333300000⟧'],
    'PHONE': ['⟦+1 202-555-0147⟧', '⟦+12025550147⟧', '⟦(202) 555-0147⟧', '⟦202-555-0147⟧', '⟦202.555.0147⟧', '⟦1-800-555-0199⟧', '⟦202 555 0147⟧', 'call ⟦555-0147⟧', '⟦555-0147⟧', 'Phone: ⟦2025550147⟧', 'phone number is ⟦2025550147⟧', '⟦+49 30 901820⟧', '⟦+49 (0)30 901820⟧', '⟦0049 30 901820⟧', 'Tel.: ⟦030 901820⟧',
              '⟦0171/1234567⟧', '⟦0171 123 45 67⟧', '⟦020 7946 0958⟧', '⟦07700 900123⟧', '⟦(0161) 496 0123⟧', '⟦01 99 00 12 34⟧', '⟦01.99.00.12.34⟧', '⟦+33 1 99 00 12 34⟧', 'Tél ⟦0199001234⟧', 'móvil: ⟦612 34 56 78⟧', '⟦(11) 91234-5678⟧', '⟦+91 98765 43210⟧', '⟦03-1234-5678⟧', '电话:⟦13800138000⟧', '手机号 ⟦138 0013 8000⟧', 'телефон ⟦8 912 345-67-89⟧',
              'WhatsApp ⟦+5511912345678⟧', 'fax: ⟦4930901820⟧', '⟦202-555-0147⟧ or ⟦202-555-0148⟧', '⟦(123)-456-7890⟧', '⟦+ 1 (790) 998-9545⟧', "'⟦123-456-7890⟧'", 'Text me at ⟦2025550147⟧', '⟦+44 7700 900123⟧;'],
    'BIRTH': ['born on ⟦March 5, 1990⟧', 'born ⟦5 March 1990⟧ in Ulm', 'DOB: ⟦05/03/1990⟧', 'D.O.B. ⟦1990-03-05⟧', 'Date of Birth (MM/DD/YYYY): ⟦03/05/1990⟧', '"date_of_birth": "⟦1990-03-05⟧"', 'Her birthday is ⟦June 22nd⟧', 'birthdate ⟦5.3.90⟧', 'geb. ⟦05.03.1990⟧', 'geboren am ⟦5. März 1990⟧', 'Geburtsdatum: ⟦5.3.1990⟧', 'née le ⟦5 mars 1990⟧', 'né(e) le ⟦05/03/1990⟧',
              'date de naissance : ⟦1er mai 1990⟧', 'nacido el ⟦5 de marzo de 1990⟧', 'fecha de nacimiento ⟦05-03-1990⟧', 'nata il ⟦5 maggio 1990⟧', 'data di nascita ⟦5/3/1990⟧', 'nascido em ⟦5 de março de 1990⟧', 'geboren op ⟦5 mei 1990⟧', 'родился ⟦5 марта 1990⟧', 'дата рождения: ⟦05.03.1990⟧', '出生日期：⟦1990年3月5日⟧', '生年月日 ⟦1990/03/05⟧', '⟦1990年3月5日⟧生まれ', '생년월일: ⟦1990년 3월 5일⟧', 'doğum tarihi ⟦5 Mayıs 1990⟧',
              'Jane (b. ⟦5 March 1990⟧)', 'was born in St. Louis, Missouri, on ⟦March 5, 1990⟧', 'DOB ⟦19900305⟧', 'DOB:\n⟦1990-03-05⟧', 'born in ⟦December 1989⟧'],
    'KEY': [f'⟦sk-{R}{R}⟧', f'OPENAI_API_KEY=⟦sk-proj-{R}_{R}⟧', f'⟦sk-ant-api03-{R}-{R}⟧', '⟦AKIA' + 'ABCDEFGH12345678⟧', f'⟦ghp_{R}{R}⟧', f'⟦github_pat_{R}_{R}⟧', f'⟦glpat-{R}⟧', f'⟦xoxb-1234567890-{R}⟧', f'⟦AIza{R}{R[:15]}⟧', f'⟦sk_live_{R}⟧', f'⟦rk_test_{R}⟧', f'⟦hf_{R}{R}⟧', f'⟦npm_{R}{R}⟧',
            f'⟦eyJhbGci{R}.eyJzdWIi{R}.{R}⟧', f'Authorization: Bearer ⟦{R}⟧', f'authorization: token ⟦{R}⟧', 'password: ⟦hunter2!⟧', 'password = "⟦hunter-two⟧"', "'api_key': '⟦abcd1234efgh⟧'", 'my password is ⟦S3cret-99⟧.', 'PASSWORD=⟦pa$$w0rd⟧', 'password = "⟦password123⟧"', 'Passwort: ⟦geheim123⟧', '密码：⟦abc12345⟧', f'client_secret: ⟦{R}⟧',
            '⟦' + '9f86d081884c7d659a2feaa0c55ad015'*2 + '⟧', '⟦' + 'Zk9' + R*2 + '+/Qx==⟧', '⟦-----BEGIN RSA PRIVATE KEY-----\nMIIabc/def\n-----END RSA PRIVATE KEY-----⟧', f'0x: ⟦0x{"4c0883a69102937d6231471b5dbb6204"*2}⟧'],
}
ORDINARY = ['', ' ', 'In 1990 and 2023.', '1990-1995, 1996–1999', 'on 2023-10-12 at 10:30:00', '12/31/2023 to 01/02/2024', '01.02.2023', '05.03.1990', 'March 5, 1990 was a Monday.', 'born in 1990', 'He was born in Ohio. On 5 May 2001 he left.', 'born in 1975, she married on May 5, 1998', 'A star is born in 2018', 'stillborn', 'birthday party for a 10 year old',
    '12345 * 6789 = 83810205', '1234567 + 7654321', '2025550147', 'x = 1234567890', '3.14159265358979', '0.5714285714285714', '-1234567.89', '1,234,567,890', '$1,234,567', '100 200 300 400 500 600', '1 2 3 4 5 6 7 8 9 10', '[1, 2, 3, 4, 5, 6, 7]', '0 1 2 3 4 5 6 7 8 9', '52 58 40 26', '001 002 003', '8  12 16 20 24 28 32 36', '01001000 01100101 01101100',
    '0101010101010101010101010101010101010101', '192.168.100.101', '255.255.255.0', '10.0.0.1/24', 'v3.11.7', 'Python 3.11.7rc1', 'ISBN 978-3-16-148410-0', 'ISBN 9780743273565', 'ISSN 1234-5679', 'doi 10.1007/s00038-010-0170', 'pp. 18755-18761', '55. 327-335', '16:9', '1/2 + 3/4', 'E=mc^2', '10^12', '1e-10', '45°30′15″', '12 345 678 people', '1 000 000 000',
    '4111 1111 1111 1112', '1234567890123456', '1596126400', 'order 20231012123456', 'AB12 CD34', 'GB82 WEST 1234 5698 7654 33', 'THE 12 APOSTLES AND 300 SPARTANS', 'model XR12345678901234',
    '@dataclass', '@media (max-width: 600px)', 'A @ B', 'user@localhost', '@someone on the net', 'npm i @scope/pkg@1.2.3', 'a@b', 'e.g. this', 'Node.js and ASP.NET', 'and/or', 'yes/no', 'example.com', 'file.py/', 'http:', '://', 'a://', 'lost its way...',
    'The password must be at least 8 characters long.', 'Password: must contain a digit', 'password: str', "password = request.form['password']", 'password = input("Password? ")', 'password == confirm', '"password": "string"', 'password: ""', 'password: ********', 'password: ${DB_PASSWORD}', 'api_key = os.environ["KEY2"]', 'api_key="YOUR_API_KEY"', 'token = tokens[i+1]', 'token: 5', 'next token is a number', 'secret: the key to 2 things', 'tokenization is 100% done', 'a passing grade is 65',
    'Bearer of bad news', 'the bearer responsibilities', 'sk-learn', 'sha256:' + '9f86d081884c7d659a2feaa0c55ad015'*2, '550e8400-e29b-41d4-a716-446655440000', 'supercalifragilisticexpialidocious'*2, 'theQuickBrownFoxJumpsOverTheLazyDogAndRunsAway', 'ask_user_if_they_want_to_continue_with_step_2_or_3', '/usr/local/lib/python3.11/site-packages/numpy/core/_methods', '-'*80, '='*80, '3'*60, 'a'*60, 'ATGCGTACGTTAGCATGCGTACGTTAGCATGCGTACGTTAGC', '-----BEGIN CERTIFICATE-----',
    '<EMAIL_1> and <PHONE_22>', 'password=<KEY_1>', 'Bearer <KEY_1>', 'born on <BIRTH_1>', '写一首关于春天的诗，2023年', '在1990年3月5日，天气很好。', '第12345678号', '(1999) 123-456', 'Build a mobile app | 3/1/2021 | 5/3/2021', 'a 5-7-5 haiku', '24/7', '1990 2000 2010 2020']


def cells(): return [(kind, t) for kind, texts in PERSONAL.items() for t in texts if '⟦' in t]


def apart(marked):
    "The text, and the spans that were marked in it"
    text, spans = '', []
    for i, part in enumerate(re.split('[⟦⟧]', marked)):
        if i % 2: spans.append((len(text), len(text) + len(part)))
        text += part
    return text, spans


@pytest.mark.parametrize('kind,marked', cells(), ids=ID)
def test_personal(kind, marked):
    text, spans = apart(marked)
    assert find(text) == [Found(kind, *s) for s in spans]


@pytest.mark.parametrize('text', ORDINARY, ids=ID)
def test_ordinary(text): assert find(text) == []


@pytest.mark.parametrize('kind,marked', cells(), ids=ID)
def test_in_the_middle_of_a_text(kind, marked):
    text, spans = apart(marked)
    before = 'It rained for 3 days.\n\n'
    assert find(f'{before}{text}\n\nThen 12 men came.') == [Found(kind, a + len(before), b + len(before)) for a, b in spans]


def test_every_kind_has_its_examples(): assert set(PERSONAL) == set(KINDS) and len(cells()) > 120 and len(ORDINARY) > 120


WIDE = str.maketrans({c: chr(c + 0xfee0) for c in range(0x21, 0x7f)})
DISGUISES = {
    'full-width': lambda t: t.translate(WIDE), 'digits of Arabic': lambda t: t.translate({48 + i: 0x660 + i for i in range(10)}), 'digits of Devanagari': lambda t: t.translate({48 + i: 0x966 + i for i in range(10)}),
    'zero width': lambda t: '\u200b'.join(t), 'soft hyphens': lambda t: '\u00ad'.join(t), 'left to right': lambda t: '\u202d' + t + '\u202c', 'byte order marks': lambda t: '\ufeff'.join(t), 'no-break': lambda t: t.replace(' ', '\u00a0').replace('-', '\u2011'),
    'thin spaces': lambda t: t.replace(' ', '\u2009').replace('-', '–'), 'bold': lambda t: re.sub('[0-9]', lambda m: chr(0x1d7ce + int(m[0])), t), 'variation selectors': lambda t: '\ufe0f'.join(t)}


@pytest.mark.parametrize('value', ['jane.doe@example.com', '+1 202-555-0147', '4111 1111 1111 1111', 'DE89 3704 0044 0532 0130 00', '(202) 555-0147', 'https://example.com/x'])
@pytest.mark.parametrize('how', DISGUISES)
def test_disguised(how, value):
    "Found where it stands in the original, and the same as without the disguise"
    shown = DISGUISES[how](value)
    text, hide = f'Ünten — “{shown}” … ok', Anonymizer()
    found = find(text)
    assert len(found) == 1 and text[found[0].start:found[0].end] == shown.strip('\u202d\u202c')
    assert hide(value)[0] == hide(shown.strip('\u202d\u202c'))[0]


@SOME
@given(st.lists(st.sampled_from([apart(m)[0] for _, m in cells()] + ORDINARY + ['<EMAIL_3>', '<PERSON_1>', '<', '_1>', ' ', '\n', '-', '"', "'", ':', '/', '.', '+', 'born ', 'password=', '\u200b', '\ud800', 'ﬁ', '１２３']), max_size=8), st.sampled_from(['', ' ', ', ', '\n']))
def test_once_is_enough(parts, between):
    text, hide = between.join(parts), Anonymizer()
    safe, names = hide(text)
    assert find(safe) == [] and hide(safe) == (safe, ())
    assert set(names) <= set(hide.mapping) and all(n in safe for n in names)
    assert Anonymizer()(text) == (safe, names), 'the same again'


@SOME
@given(st.text(alphabet='0123456789+-() .@/:aAbezE<>_1"=\n\u200b１', max_size=60))
def test_any_text(text):
    found = find(text)
    assert all(f.start < f.end and f.kind in KINDS for f in found) and all(a.end <= b.start for a, b in zip(found, found[1:]))
    safe, _ = (hide := Anonymizer())(text)
    assert find(safe) == [] and hide(safe)[0] == safe


@SOME
@given(st.lists(st.tuples(st.sampled_from('abcdef'), st.booleans()), max_size=30))
def test_one_number_a_value(order):
    hide, seen = Anonymizer(), {}
    for who, loud in order:
        address = f'{who}@example.com'
        out, names = hide(f'To {address.upper() if loud else address}!')
        assert seen.setdefault(address, out) == out and names == (out[3:-1],)
    assert sorted(hide.mapping) == sorted(f'<EMAIL_{i+1}>' for i in range(len(seen)))


def test_chains_come_apart_at_once():
    hide, n = Anonymizer(), 300
    assert hide('born 1.1.1990 '*n)[0] == 'born <BIRTH_1> '*n
    assert hide('+12025550147'*n)[0] == '<PHONE_1>'*n
    assert hide('(' + '+1 202-555-0147'*n)[0].count('555') == 0
    hide._found = lambda text, deep: [Found('PHONE', m.start(), m.start() + 1) for m in re.finditer('(?m)(?<!x)x(?=x*$)', text)]   # as if each hid the next
    safe, names = hide('x'*n + '\ny xx\n')
    assert safe.count('x') == 0 and safe.count('\n') == 2 and len(names) == 8 + 1 + 2


def test_spellings_of_one_value():
    hide = Anonymizer()
    assert hide('+1 202-555-0147 +1 (202) 555 0147, 001 202 555 0147')[1] == ('<PHONE_1>',)*3
    assert hide('4111 1111 1111 1111, 4111111111111111')[1] == ('<CARD_1>',)*2
    assert hide('DE89 3704 0044 0532 0130 00, de89370400440532013000')[1] == ('<IBAN_1>',)*2
    assert hide('https://example.com/A HTTPS://EXAMPLE.com/A')[1] == ('<URL_1>',)*2
    assert hide('password=Abcd1234 password=aBCD1234')[1] == ('<KEY_1>', '<KEY_2>'), 'of a secret every letter counts'


def test_what_overlaps_becomes_one():
    text = 'https://jane@example.com/?token=' + R + R
    assert find(text) == [Found('URL', 0, len(text))]
    assert find('password=jane@example.com') == [Found('EMAIL', 9, 25)]


def test_a_key_that_was_cut_off_goes_to_the_end(): assert find(t := 'x -----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\n') == [Found('KEY', 2, len(t))]


def test_placeholders_from_outside():
    hide = Anonymizer()
    assert hide('<EMAIL_1> is what jane@example.com becomes, <PHONE_2> is another') == ('<EMAIL_1> is what <EMAIL_2> becomes, <PHONE_2> is another', ('<EMAIL_2>',))
    assert hide('555-0147, 555-0148')[1] == ('<PHONE_1>', '<PHONE_3>')
    assert hide.restore('<EMAIL_1> <EMAIL_2> <EMAIL_3> <PHONE_2>') == '<EMAIL_1> jane@example.com <EMAIL_3> <PHONE_2>'


def test_cut_takes_finds_of_others():
    hide, text = Anonymizer(), 'Jane Doe met JANE  DOE.'
    assert hide.cut(text, [Found('PERSON', 0, 8), Found('PERSON', 13, 22)]) == ('<PERSON_1> met <PERSON_1>.', ('<PERSON_1>',)*2)


def test_the_file_is_for_its_owner(tmp_path):
    path, mask = tmp_path/'new'/'private.json', os.umask(0)
    try: (hide := Anonymizer(path))('jane@example.com 202-555-0147 \ud800'); hide.save()
    finally: os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [p.name for p in path.parent.iterdir()] == ['private.json']
    os.chmod(path, 0o644); hide.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == hide.mapping == {'<EMAIL_1>': 'jane@example.com', '<PHONE_1>': '202-555-0147'}
    assert 'example' not in f'{hide!r} {hide} {find("jane@example.com")}'
    Anonymizer().save()


def test_goes_on_where_it_was(tmp_path):
    texts = [f'a{i % 7}@example.com, +49 30 90182{i % 5}{i % 3}, \u200bＸ{i}@example.com, <EMAIL_{5 * i + 1}>' for i in range(20)]
    whole, path = Anonymizer(), tmp_path/'m.json'
    want = [whole(t) for t in texts]
    first = Anonymizer(path)
    got = [first(t) for t in texts[:9]]
    first.save()
    again = Anonymizer(path)
    assert got + [again(t) for t in texts[9:]] == want and again.mapping == whole.mapping
    assert [Anonymizer(path)(t) for t in texts[:9]] == got


@pytest.mark.parametrize('broken', ['', '{', '[]', '3', 'null', '{"<EMAIL_1>": 3}', '{"jane": "jane@example.com"}', '{"<EMAIL_1>": "jane@example.com"', '\xff\xfe', '['*100_000])
def test_a_broken_file_says_so(tmp_path, broken):
    path = tmp_path/'m.json'
    path.write_bytes(broken.encode('latin-1'))
    with pytest.raises(DataError) as e: Anonymizer(path)
    assert str(path) in str(e.value) and '\n' not in str(e.value) and 'jane' not in str(e.value).replace(str(path), '')


def test_a_file_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match='cannot be read'): Anonymizer(tmp_path)
    (tmp_path/'file').write_text('')
    hide = Anonymizer()
    hide('jane@example.com')
    hide.path = tmp_path/'file'/'m.json'
    with pytest.raises(DataError, match='cannot be written') as e: hide.save()
    assert 'jane' not in str(e.value).replace(str(tmp_path), '')


def test_threads_share_the_numbers():
    hide, outs, n = Anonymizer(), [None]*8, 400
    def work(k): outs[k] = {i: hide(f'p{i}@example.com')[0] for i in (range(n) if k % 2 else reversed(range(n)))}
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    before = sys.getswitchinterval(); sys.setswitchinterval(1e-6)
    try:
        for t in threads: t.start()
        for t in threads: t.join()
    finally: sys.setswitchinterval(before)
    assert all(o == outs[0] for o in outs) and sorted(hide.mapping) == sorted(f'<EMAIL_{i+1}>' for i in range(n))


def test_long_and_hostile_texts_end():
    "Each would run for minutes, were a pattern of the wrong kind"
    n = 100_000
    for piece in ('1', '1 ', '1-', '+', '+1', '(', '@', 'a@', 'a.', 'a@a.', 'a'*64 + '@', 'eyJ', 'eyJa.', 'sk-', '://', 'a://', 'www.', '-----BEGIN PRIVATE KEY-----', 'DE89 ', 'DE89A', 'aB3', 'born ', 'DOB 1', '1.1', 'jan ', 'password', 'password:', "password:'", 'bearer ', '(at) ', 'a(at)', ')', ' ', '\n', '\u200b', '１', '＠', '<', '<A_', '<A_1>', '.com/', '0 ', '00 1', '=', '\\', '年'):
        for text in (piece*(n//len(piece)), 'x' + piece*(n//len(piece)) + '!'): find(text)


def test_alpaca(shared):
    "Of 52,002 instructions one in a hundred has something, mostly links; and no address is overlooked"
    naive, kinds, texts, some = re.compile(r'[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}'), dict.fromkeys(KINDS, 0), 0, 0
    for r in json.load(gzip.open(shared/'data/alpaca/alpaca_data.json.gz')):
        text = '\n'.join((r['instruction'], r['input'], r['output']))
        found, texts = find(text), texts + 1
        some += bool(found)
        for f in found: kinds[f.kind] += 1
        for m in naive.finditer(text): assert any(f.start <= m.start() and m.end() <= f.end for f in found), m[0]
    assert some < .011*texts and sum(kinds[k] for k in ('PHONE', 'BIRTH', 'KEY', 'CARD', 'IBAN')) < .003*texts
    assert kinds['URL'] > 500 and kinds['EMAIL'] > 90 and kinds['PHONE'] > 45 and kinds['BIRTH'] > 25


def test_patients_questions_are_left(shared):
    "5,000 questions about health: many numbers, doses and dates, and hardly a phone number"
    rows = json.load(open(shared/'data/chatdoctor/chatdoctor5k.json'))
    assert sum(bool(find('\n'.join(map(str, r.values())))) for r in rows) < len(rows)/500


def test_without_presidio(monkeypatch):
    monkeypatch.setitem(sys.modules, 'presidio_analyzer', None)
    with pytest.raises(ConfigError, match='pip install presidio-analyzer spacy'): Anonymizer(spacy_model='any')
    assert Anonymizer()('Jane Doe') == ('Jane Doe', ())


@pytest.fixture
def toy(tmp_path):
    "A spaCy model that knows two persons, a town and a placeholder by heart"
    pytest.importorskip('presidio_analyzer')
    import spacy
    nlp = spacy.blank('en')
    nlp.add_pipe('entity_ruler').add_patterns([{'label': 'PERSON', 'pattern': p} for p in ('Jane Doe', 'JANE DOE', 'John', "John's", 'Doe EMAIL_1')] + [{'label': 'GPE', 'pattern': 'Ulm'}, {'label': 'PERSON', 'pattern': [{'TEXT': '<'}, {'TEXT': 'PERSON_1'}, {'TEXT': '>'}]}])
    nlp.to_disk(tmp_path/'toy')
    return tmp_path/'toy'


@pytest.fixture
def no_network(monkeypatch):
    import socket
    def refuse(*a, **k): raise AssertionError('something called home')
    for name in ('connect', 'connect_ex', 'sendto'): monkeypatch.setattr(socket.socket, name, refuse)
    for name in ('getaddrinfo', 'create_connection'): monkeypatch.setattr(socket, name, refuse)


def test_presidio(toy, no_network, caplog):
    hide = Anonymizer(spacy_model=toy)
    text = "Jane Doe <jane@example.com> of Ulm wrote to John. John's answer to JANE DOE: xJohn, John’s, 202-555-0147."
    safe, names = hide(text)
    assert safe == "<PERSON_1> <<EMAIL_1>> of <LOCATION_1> wrote to <PERSON_2>. <PERSON_2>'s answer to <PERSON_1>: xJohn, <PERSON_2>’s, <PHONE_1>."
    assert hide(safe) == (safe, ()) and len(names) == 8
    assert hide(text, deep=False)[0].startswith('Jane Doe <<EMAIL_1>> of Ulm')
    assert caplog.text == ''
    assert Anonymizer(spacy_model=toy, entities=('PERSON', 'US_SSN'))('Ulm: Jane Doe, social security number 536-22-8726')[0] == 'Ulm: <PERSON_1>, social security number <US_SSN_1>'


def test_presidio_over_long_and_odd_texts(toy, no_network):
    hide = Anonymizer(spacy_model=toy)
    text = 'Jane Doe went home. \ud800 ' * 8_000
    assert hide(text)[0] == text.replace('Jane Doe', '<PERSON_1>')
    assert hide('x'*120_000)[1] == ()


def test_presidio_set_up_wrongly(toy, tmp_path):
    import spacy
    spacy.blank('en').to_disk(tmp_path/'empty')
    for kw, said in ((dict(spacy_model=tmp_path/'none'), 'cannot be loaded'), (dict(spacy_model=tmp_path), 'cannot be loaded'), (dict(spacy_model=tmp_path/'empty'), 'knows no names'), (dict(spacy_model=toy, entities=('PERSON', 'NONSENSE')), 'NONSENSE cannot be looked for'),
                     (dict(spacy_model=toy, entities=('EMAIL_ADDRESS',)), 'EMAIL_ADDRESS cannot'), (dict(spacy_model='en_core_web_none'), 'cannot be loaded')):
        with pytest.raises(ConfigError, match=said) as e: Anonymizer(**kw)
        assert '\n' not in str(e.value)

"Everything that can change stands in settings.ini: edit there, not here."
from configparser import ConfigParser
from pathlib import Path
import setuptools

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

wanted = 'lib_name version description keywords author author_email license copyright git_url status min_python audience language'
missing = [k for k in wanted.split() if not cfg.get(k)]
if missing: raise SystemExit(f"settings.ini lacks: {', '.join(missing)}")

name, min_python = cfg['lib_name'], cfg['min_python']
spdx = {'apache2': 'Apache-2.0', 'mit': 'MIT'}
statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']
pythons = '3.10 3.11 3.12 3.13'.split()

def words(key):
    "The requirements of `key`. They are split at spaces only: a shell's rules would eat the quotes of `tomli;python_version<'3.11'`"
    return cfg.get(key, '').split()

setuptools.setup(
    name = name,
    **{k: cfg[k] for k in ('version', 'description', 'keywords', 'author', 'author_email')},
    license_expression = spdx.get(cfg['license'].lower(), cfg['license']),
    license_files = ['LICENSE'],
    url = cfg['git_url'],
    long_description = Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type = 'text/markdown',
    classifiers = [
        f"Development Status :: {statuses[int(cfg['status'])-1]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        *(f'Programming Language :: Python :: {v}' for v in pythons[pythons.index(min_python):])],
    python_requires = f'>={min_python}',
    packages = setuptools.find_packages(include=[name, f'{name}.*']),
    package_data = {name: ['data/**', 'assets/**']},
    install_requires = words('requirements'),
    extras_require = {k: words(f'{k}_requirements') for k in ('dev', 'anonymize', 'train', 'evaluate')},
    entry_points = {
        'console_scripts': words('console_scripts'),
        'nbdev': [f"{name}={cfg['lib_path']}._modidx:d"]},
    zip_safe = False)

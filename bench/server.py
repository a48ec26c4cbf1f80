"""A fake engine for the benchmarks: answers after a set time, and stumbles as often as it is told to.

    python bench/server.py --latency 0.05 --faults        prints its address, serves until it is stopped

Each prompt meets the same faults at the same tries, whoever asks: they hang on the seed, the prompt and the number of the try.
GET /stats tells how often each prompt was asked and when the first request came; POST /reset forgets.
"""
import argparse, asyncio, hashlib, json, sys, time
from collections import Counter
from aiohttp import web

FAULTS = [(.10, '429'), (.05, '500'), (.02, 'reset'), (.01, 'cut'), (.01, 'empty')]
TEXT = 'A reply of some fifty words, as a small model writes it, is what comes back for every prompt here. ' * 3


class Fake:
    def __init__(self, latency, faults, seed): self.latency, self.faults, self.seed = latency, faults, seed; self.forget()
    def forget(self): self.asked, self.first, self.most, self.now = Counter(), None, 0, 0

    def fault(self, prompt, n):
        p = int(hashlib.sha256(f'{self.seed} {n} {prompt}'.encode()).hexdigest()[:8], 16) / 16**8
        for share, name in self.faults:
            if p < share: return name
            p -= share

    async def answer(self, request):
        self.first = self.first or time.time()
        body = json.loads(await request.read())
        prompt = (body['messages'] or [{'content': ''}])[-1]['content'] if 'messages' in body else body['prompt']
        if isinstance(prompt, list): prompt = ''.join(part.get('text', '') for part in prompt)   # as parts, which some clients send
        self.asked[prompt] += 1
        what = self.fault(prompt, self.asked[prompt])
        self.now += 1; self.most = max(self.most, self.now)
        try:
            if self.latency: await asyncio.sleep(self.latency)
        finally: self.now -= 1
        if what == '429': return web.json_response({'error': {'message': 'too many requests'}}, status=429)
        if what == '500': return web.json_response({'error': {'message': 'internal error'}}, status=500)
        if what == 'reset':
            if request.transport: request.transport.abort()   # else the client has hung up by itself
            return web.Response()
        text = f'{prompt}: {TEXT}'
        choice = {'message': {'role': 'assistant', 'content': text}} if 'messages' in body else {'text': text}
        out = json.dumps({'id': 'fake', 'object': 'chat.completion', 'created': 0, 'model': body['model'],
                          'choices': [] if what == 'empty' else [{'index': 0, 'finish_reason': 'stop', **choice}],
                          'usage': {'prompt_tokens': 20, 'completion_tokens': 60, 'total_tokens': 80}})
        return web.Response(text=out[:len(out)//2] if what == 'cut' else out, content_type='application/json')

    async def stats(self, request): return web.json_response({'asked': self.asked, 'first': self.first, 'most': self.most})
    async def reset(self, request): self.forget(); return web.Response()
    async def models(self, request): return web.json_response({'object': 'list', 'data': [{'id': 'fake', 'object': 'model', 'created': 0, 'owned_by': 'bench'}]})


async def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--latency', type=float, default=.05, help='seconds before each answer')
    p.add_argument('--faults', action='store_true', help='10%% 429, 5%% 500, 2%% resets, 1%% cut JSON, 1%% empty choices')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--port', type=int, default=0, help='0 takes a free one')
    a = p.parse_args()
    fake, app = Fake(a.latency, FAULTS if a.faults else [], a.seed), web.Application()
    for path in ('/v1/chat/completions', '/v1/completions'): app.router.add_post(path, fake.answer)
    app.router.add_get('/v1/models', fake.models); app.router.add_get('/stats', fake.stats); app.router.add_post('/reset', fake.reset)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', a.port, backlog=1024)
    await site.start()
    print(f'http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}', flush=True)
    await asyncio.Event().wait()

if __name__ == '__main__':
    try: asyncio.run(main())
    except KeyboardInterrupt: sys.exit(0)

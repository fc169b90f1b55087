#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer/chat.json: chat templates, rendered by Jinja as the `transformers` package sets it up.

usage: gen_tokenizer_chat.py OUT.json [MODEL.gguf]
The model's own template is the first case; the others show what the families in use ask for: ChatML with and without
a default system message and tools, header marks with trimming, [INST] with alternating roles, marks on lines.
"""
import json
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
              "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml, guarded": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
                       "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
                       "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml, tools": """{%- macro tool(t) %}{{ t | tojson }}{% endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}{{ tool(tools[0]) }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {{- undefined_function(message) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "headers": "{% set list = messages %}{% for message in list %}{% set text = '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
               "{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "headers, with a date": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message comes out first. #}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "inst": "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
            "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{{ bos_token }}{% for m in rest %}"
            "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
            "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + "
            "m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
            "{{ '[INST] ' + content.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
            "{{ ' ' + content.strip() + eos_token }}{% endif %}{% endfor %}",
    "inst, no system": "{{ bos_token }}{% for m in messages %}{% if m.role != 'user' %}"
                       "{{ raise_exception('only user turns here') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}",
    "lines": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
             "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n"
             "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "namespace": "{% set ns = namespace(count=0, seen='') %}{% for m in messages %}{% set ns.count = ns.count + 1 %}"
                 "{% set ns.seen = ns.seen ~ m.role[0:1] if false else ns.seen ~ m.role ~ ',' %}{% set hidden = 'in' %}{% endfor %}"
                 "{{ ns.count }} {{ ns.seen }}{{ hidden }}|{{ messages|length }} {{ messages[-1].content | upper if "
                 "messages[-1].content is string and 'x' in ['x', 'y'] else '' }}{{- '' | default('no') }}"
                 "{{ nothing | default('yes') }} {{ 'a' 'b' ~ 3 if ns.count >= 1 and not ns.count > 9 }}\n\n",
    "white space": "  {% if true %}  x  {% endif %}  \n  {#- note -#}  y {{- ' z ' -}}  \n\n {%+ if true %}w{% endif %}\n"
                   "   {% if messages %}\n  v\n   {% endif %}\nu {{ '%}' }} {{ \"}}\" }}\n",
}
USERS = ["Bonjour le monde", "  two\n lines\u00a0\n ", "<|im_end|> {{ 1 }} '\"\\n {% if %}", ""]
SYSTEMS = [None, "Answer in French.", " \t padded \n"]


def render(template, messages):
    env = _compile_jinja_template(template)
    try:
        return env.render(messages=messages, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    except Exception as e:
        return None if "alternate" in str(e) or "only user" in str(e) else sys.exit(f"{template[:60]}: {e}")


def main():
    templates = dict(TEMPLATES)
    if len(sys.argv) > 2:
        from gguf import GGUFReader
        templates = {"smollm2": GGUFReader(sys.argv[2]).fields["tokenizer.chat_template"].contents(), **templates}
    cases = []
    for name, template in templates.items():
        for system in SYSTEMS:
            for user in USERS:
                messages = [{"role": "system", "content": system}] if system is not None else []
                messages.append({"role": "user", "content": user})
                if name == "namespace" and not user.isascii():
                    continue
                # jinja2 fills strftime_now in; nres has no clock in templates
                text = render(template.replace("strftime_now is defined", "false"), messages)
                cases.append({"name": name, "system": system, "user": user, "text": text})
    with open(sys.argv[1], "w") as f:
        json.dump({"templates": templates, "cases": cases}, f, indent=0, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()

"""Small rules around any router, one module a concern. See docs/policies.md.

    constraints   who may answer at all: tenant, lists, abilities, context length, language
    outage        who can answer now
    load_price    what loading an expert costs counts against it
    conversation  the expert of the last turn stays, unless another one is clearly better
    number        how many experts answer

`policy_set` composes them.
"""

"""Plans: the order in which a canvas is drawn, a file for each way of reading features.

A plan is a function of a layout that fills in ranks, a readout and, for `shifted`, sources and extra inputs of
`arzoo.core.plan.Plan`. Groups, the number of network calls and the attention rule follow from these. To add one, write
the function in a file of this folder:

    from arzoo.samplers.plans.about import plan

    @plan(paper="Title of the Paper, 2025", section="3.1", readouts=("inplace",))
    def columns(layout: Grid, width: int = 1) -> Plan:
        '''Columns from left to right, `width` at a time.'''
        return Plan(layout, layout.coords()[:, 2] // width, "inplace", name="columns")

Nothing lists it: the name is that of the function, the layouts and options are those of its signature, and the files of
this folder are imported when somebody asks for a plan. Command line, model cards, the matrix of what fits and messages
read the rest from the decorator. Give it a row in `tests/samplers/test_plans.py`. A plan of another distribution is the
same function behind an entry point of the group `arzoo.plans`, see `examples/spiral`.
"""

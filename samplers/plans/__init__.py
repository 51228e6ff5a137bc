"""Plans: orders of generation, one file per kind of readout.

A plan is a function of a layout that returns an `arzoo.core.plan.Plan`: ranks, a readout and, for `shifted`, sources
and extra inputs. Groups, the number of network calls and the attention rule follow from these. To add one, write the
function in a file of this folder:

    from arzoo.samplers.plans.about import plan

    @plan(paper="Title of the Paper, 2025", section="3.1", readouts=("inplace",))
    def columns(layout: Grid, width: int = 1) -> Plan:
        '''Columns from left to right, `width` at a time.'''
        return Plan(layout, layout.coords()[:, 2] // width, "inplace", name="columns")

No list has to be extended: the function gives the name, its signature the layouts and options, and the files of this
folder are imported when a plan is looked up. The command line, model cards, the compatibility matrix and messages take
the rest from the decorator. Add a row to `tests/samplers/test_plans.py`. Other distributions register such a function
through an entry point of the group `arzoo.plans`, see `examples/spiral`.
"""

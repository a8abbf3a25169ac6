"""Floor 2, scenarios: a subnet, steps that happen to it, and what must hold; the same document for every target.

| module | what it is for |
| --- | --- |
| spec | shapes of the document, defaults, units |
| expectations | `after.p99 <= 1.5 * before.p99`, read and judged from reports |
| plan | a checked document as a tree of steps, each run with all that is expected of it |
| targets | what steps mean in a subnet, and which a target lacks |
| checks | contradictions that shapes cannot express, step after step with the subnet as it is then |
| document | text to plan |
| stage | what a scenario needs of the place where it runs; implemented in `cli.stages` |
| runner | walks the steps on a stage |
| events, trial | what is told while it runs; what a trial gave, and several as one document |

Called by cli. Knows no target, no clock, no file.
"""

"""The Lava processes, and all that is taken of Lava: nothing else here imports it.

Lava looks for the models of a process by running every file of this folder, under its bare name, at every compilation.
So nothing but processes and models lies here, imports are absolute, and a file of NcProcessModels for a chip,
`ncmodels.py`, is found when it is put beside `models.py`.
"""

from mep_neuro_lava.compat import importable

with importable():
    from lava.magma.core.learning.constants import GradedSpikeCfg as GradedSpikeCfg
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule as Loihi3FLearningRule
    from lava.magma.core.process.message_interface_enum import ActorType as ActorType
    from lava.magma.core.process.process import ProcessServer as ProcessServer
    from lava.magma.core.run_conditions import RunSteps as RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg as Loihi2HwCfg
    from lava.magma.core.run_configs import Loihi2SimCfg as Loihi2SimCfg
    from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND as MGMT_COMMAND
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE as MGMT_RESPONSE
    from lava.magma.runtime.runtime import Runtime as Runtime
    from lava.proc.dense.process import Dense as Dense
    from lava.proc.dense.process import LearningDense as LearningDense
    from lava.utils.weightutils import SignMode as SignMode

    from mep_neuro_lava.processes.process import Clamp as Clamp
    from mep_neuro_lava.processes.process import EPNeuron as EPNeuron
    from mep_neuro_lava.processes.process import Probe as Probe

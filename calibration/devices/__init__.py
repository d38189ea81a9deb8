"""How the device library is built: from public benchmark logs to curve files with intervals.

``python -m calibration.devices`` rebuilds every file of ``scenarios/devices/`` from the raw files
in ``raw/`` (copied with their licences) and the names in ``catalogue.yaml``. Which blocks of the
logs describe a device is in ``measurements``, the fitted curve in ``scaling``, the stand-in for the
communication side in ``receiving``. Scenarios read the result through
``kdsim.scenario.files.library``; nothing here is needed for that.
"""

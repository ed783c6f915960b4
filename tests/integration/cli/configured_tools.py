"""Actions of a module that configures logging, as a script does."""

import logging
import sys

from stepwave import Context, action

logging.basicConfig(level=logging.DEBUG, format="BASIC %(message)s")
own = logging.getLogger("own")
own.addHandler(logging.StreamHandler(sys.stdout))
own.warning("while the module is imported")


@action
async def log_all(context: Context) -> None:
    """Log by the context, and by two other loggers."""
    context.logger.debug("by the context")
    own.info("by the own logger")
    logging.getLogger("other").info("by another logger")

"""`knowledged serve` whose reads leave no audit event: what is left shows what these events cost.

There is no such setting for users. Changes and refusals of other methods are recorded as ever.
"""

import sys

from knowledged import app
from knowledged.__main__ import main
from knowledged.call import AuditClass, Method
from knowledged.interceptors.audit import Auditing
from knowledged.interceptors.hall import Handler


class _OfChanges(Auditing):
    """Leaves what reads as it is."""

    __slots__ = ()

    def __call__(self, method: Method, handler: Handler) -> Handler:
        if method.audit_class is AuditClass.READ:
            return handler
        return super().__call__(method, handler)


if __name__ == "__main__":
    app.Auditing = _OfChanges
    sys.exit(main())

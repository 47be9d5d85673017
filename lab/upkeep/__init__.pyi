from .doctor import examine as examine
from .finding import Finding as Finding
from .finding import Verdict as Verdict
from .garbage import Garbage as Garbage
from .garbage import as_dict as as_dict
from .garbage import find_garbage as find_garbage
from .garbage import remove as remove
from .garbage import total as total

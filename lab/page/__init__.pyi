from .publish import REPORT as REPORT
from .publish import log_report as log_report
from .publish import log_report_if_quick as log_report_if_quick
from .render import render_page as render_page

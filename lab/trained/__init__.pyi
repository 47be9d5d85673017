from .export import FORMATS as FORMATS
from .export import export as export
from .model import TrainedModel as TrainedModel
from .model import load_trained as load_trained
from .model import restored_net as restored_net
from .predict import Prediction as Prediction
from .predict import find_pictures as find_pictures
from .predict import predict as predict
